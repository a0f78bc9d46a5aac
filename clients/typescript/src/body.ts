/**
 * Reads the body of a response piece by piece, to its end or until stop. The signal that was given to fetch is not enough: Node 20 lets go of it
 * once the response has begun, so that a silent body would be read for ever. Here the body itself is cancelled.
 */
export async function pieces(response: Response, signal: AbortSignal, take: (bytes: Uint8Array) => { stop: boolean } | void): Promise<void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  const cancel = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel);
  try {
    for (;;) {
      signal.throwIfAborted();
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done || take(value)?.stop) return;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/** The body of a response as text. */
export async function text(response: Response, signal: AbortSignal): Promise<string> {
  const decoder = new TextDecoder();
  let all = "";
  await pieces(response, signal, (bytes) => { all += decoder.decode(bytes, { stream: true }); });
  return all + decoder.decode();
}
