// When to do things: no DOM here, so that time can be a test's.

/** Longer and longer pauses with jitter, so that consoles do not come back in step. */
export class Backoff {
  #next: number;

  constructor(readonly from: number, readonly to: number, readonly random: () => number = Math.random) {
    this.#next = from;
  }

  /** How long to wait now, in milliseconds; at least what the service asked for, up to a minute. */
  next(atLeast = 0): number {
    const pause = this.#next * (0.5 + this.random() / 2);
    this.#next = Math.min(this.to, this.#next * 2);
    return Math.max(pause, Math.min(atLeast, 60_000));
  }

  reset(): void {
    this.#next = this.from;
  }
}

/**
 * Lets one run at a time through, and the next not before `every` milliseconds after the beginning of the last. Rings in between
 * count as one, and none is lost: what happened during a run is looked at after it.
 */
export class Gate {
  #running = false;
  #wanted = false;
  #notBefore = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /** `run` may return for how many milliseconds it must not be run again. */
  constructor(readonly every: number, readonly run: () => Promise<number | undefined>, readonly clock: () => number = Date.now) {}

  /** Asks for a run; `now`: without waiting for the interval, but never beside a run. */
  ring(now = false): void {
    if (this.#closed) return;
    if (now) this.#notBefore = 0;
    if (this.#running) {
      this.#wanted = true;
      return;
    }
    const wait = this.#notBefore - this.clock();
    if (this.#timer !== undefined) {
      if (!now) return;
      clearTimeout(this.#timer);
    }
    if (wait > 0) this.#timer = setTimeout(() => { this.#timer = undefined; void this.#go(); }, wait);
    else {
      this.#timer = undefined;
      void this.#go();
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #go(): Promise<void> {
    this.#running = true;
    this.#wanted = false;
    this.#notBefore = this.clock() + this.every;
    let pause: number | undefined;
    try {
      pause = await this.run();
    } finally {
      this.#running = false;
      if (pause) this.#notBefore = Math.max(this.#notBefore, this.clock() + pause);
      if (this.#wanted) this.ring();
    }
  }
}
