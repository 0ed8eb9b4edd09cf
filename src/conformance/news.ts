/** Wakes the one who waits for something to happen. */
export class News {
  #wake: () => void = () => undefined;

  /** Something has happened. */
  tell(): void {
    this.#wake();
  }

  /** What `find` finds, as soon as it finds something; undefined when the time is over. */
  async until<T>(find: () => T | undefined, withinMs: number): Promise<T | undefined> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const found = find();
      const leftMs = deadline - performance.now();
      if (found !== undefined || leftMs <= 0) return found;
      await this.#wait(leftMs);
    }
  }

  async #wait(withinMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }
}
