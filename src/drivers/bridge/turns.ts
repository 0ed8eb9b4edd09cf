/**
 * Turns: actions with the same key run one after the other, others beside each other.
 *
 * A port is added from its instance's queue, a network changed from its own: here they meet, since both
 * may have to restart the network's dnsmasq. Each action has its own deadline, which bounds the waiting.
 */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs `action` once all earlier ones with this key have ended, well or badly. */
  async take<T>(key: string, action: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const mine = before.then(action, action);
    // Who comes next waits for the end, and does not care how it was.
    const ended = mine.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(key, ended);
    try {
      return await mine;
    } finally {
      if (this.#last.get(key) === ended) this.#last.delete(key);
    }
  }
}
