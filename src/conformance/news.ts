/** Wakes the one who waits for something to happen. */
export class News {
  #wake: () => void = () => undefined;

  /** Something has happened. */
  tell(): void {
    this.#wake();
  }

  /** Until it does, or the time is over. */
  async wait(withinMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
  }
}
