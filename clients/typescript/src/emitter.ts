/** Callbacks by name. */
export class Emitter<Events> {
  readonly #callbacks = new Map<keyof Events, Set<(data: never) => void>>();

  /** Registers a callback and returns the function that deregisters it. The same function registered twice is called twice. */
  on<K extends keyof Events>(name: K, callback: (data: Events[K]) => void): () => void {
    if (typeof callback !== "function") throw new TypeError(`a callback for ${String(name)} is expected, not ${typeof callback}`);
    const own = (data: Events[K]) => callback(data);
    let all = this.#callbacks.get(name);
    if (!all) this.#callbacks.set(name, (all = new Set()));
    all.add(own);
    return () => void all.delete(own);
  }

  emit<K extends keyof Events>(name: K, data: Events[K]): void {
    for (const callback of [...(this.#callbacks.get(name) ?? [])]) {
      if (!this.#callbacks.get(name)!.has(callback)) continue; // one before it deregistered it
      try {
        (callback as (data: Events[K]) => void)(data);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** Tells the page, or the console of Node, about a callback that threw; nobody else suffers from it. */
function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else console.error(error);
}
