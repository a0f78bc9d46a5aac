// One connection to the stream of all agents' events.
import { FrameParser, type Frame } from "../../../clients/typescript/src/sse";

/** Why a connection ended, if the service said so. */
export class StreamRefused extends Error {
  constructor(readonly status: number) {
    super(`the stream was answered ${status}`);
  }
}

export interface StreamHandlers {
  opened(): void;
  event(frame: Frame): void;
  /** Anything came, a heartbeat too. */
  heard(): void;
  retry(ms: number): void;
}

/**
 * Reads the stream after a cursor until it ends, which it returns for, or fails, which it throws. fetch and not EventSource, which does not tell of
 * heartbeats: without them nobody knows a dead connection from a quiet night.
 */
export async function readStream(cursor: string, signal: AbortSignal, to: StreamHandlers): Promise<void> {
  const answer = await fetch("/v1/events", {
    headers: { Accept: "text/event-stream", "Last-Event-ID": cursor }, credentials: "same-origin", cache: "no-store", signal,
  });
  if (!answer.ok || !answer.body) throw new StreamRefused(answer.status);
  const parser = new FrameParser(to);
  const reader = answer.body.getReader();
  to.opened();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    to.heard();
    parser.push(value);
  }
}
