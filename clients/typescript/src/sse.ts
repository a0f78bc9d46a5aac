/** One event of a stream, as the server framed it. */
export interface Frame {
  /** The `id` of this very frame; undefined if it has none, for only an id of its own tells a repetition. */
  id?: string;
  event: string;
  data: string;
}

/** What a stream says besides its events. */
export interface FrameHandlers {
  event(frame: Frame): void;
  /** `retry:`, in milliseconds. */
  retry(ms: number): void;
}

/** No line of the service comes near this; without a limit a stream without line ends would fill the memory. */
const maxPending = 1 << 20;

/**
 * Reads `text/event-stream` (WHATWG HTML, section 9.2) from bytes that may be cut anywhere: within a character, within a line, between the
 * CR and the LF of one line end. What is not ended by an empty line is no event, so a frame that was cut off is never told.
 */
export class FrameParser {
  // A decoder of its own drops one byte order mark and holds back the bytes of a character that is not complete.
  readonly #decoder = new TextDecoder();
  readonly #to: FrameHandlers;
  #rest = "";
  #afterCR = false;
  #id: string | undefined;
  #event = "";
  #data: string[] = [];

  constructor(to: FrameHandlers) {
    this.#to = to;
  }

  push(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text === "" ? false : text.endsWith("\r");
    text = this.#rest + text;
    let from = 0;
    for (const end of text.matchAll(/\r\n|\n|\r/g)) {
      this.#line(text.slice(from, end.index));
      from = end.index + end[0].length;
    }
    this.#rest = text.slice(from);
    if (this.#rest.length > maxPending) throw new Error(`a line of the stream is longer than ${maxPending} characters`);
  }

  #line(line: string): void {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d{1,9}$/.test(value)) this.#to.retry(Number(value));
  }

  #dispatch(): void {
    const frame: Frame = { event: this.#event || "message", data: this.#data.join("\n") };
    if (this.#id !== undefined) frame.id = this.#id;
    const told = this.#data.length > 0;
    this.#id = undefined;
    this.#event = "";
    this.#data = [];
    if (told) this.#to.event(frame);
  }
}
