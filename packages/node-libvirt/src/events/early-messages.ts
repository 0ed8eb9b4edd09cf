/**
 * Messages that arrive before the reply to their registration: whose they are is known only then.
 *
 * Promises: while a registration for a message is on its way, messages of that name with an unknown number are kept, in
 * order, up to a limit; what goes beyond it is counted. At other times there are none.
 */

/** Messages kept. The reply is some milliseconds behind the daemon's registration; a storm in that time is a few dozen. */
export const EARLY_MAX = 256;

interface Early {
  message: string;
  callback: number | null;
  body: unknown;
}

export class EarlyMessages {
  /** Registrations on their way, by message. */
  readonly #awaited = new Map<string, number>();
  #kept: Early[] = [];
  #dropped = 0;

  /** A registration is sent. */
  await(message: string): void {
    this.#awaited.set(message, (this.#awaited.get(message) ?? 0) + 1);
  }

  /** Keeps a message if it may belong to a registration that is on its way. */
  keep(message: string, callback: number | null, body: unknown): void {
    if (!this.#awaited.has(message)) return;
    if (this.#kept.length < EARLY_MAX) this.#kept.push({ message, callback, body });
    else this.#dropped++;
  }

  /** The messages of a registration, whose number is now known. */
  take(message: string, callback: number | null): unknown[] {
    const isOf = (early: Early) => early.message === message && early.callback === callback;
    const taken = this.#kept.filter(isOf);
    this.#kept = this.#kept.filter((early) => !isOf(early));
    return taken.map((early) => early.body);
  }

  /**
   * A registration has been answered.
   *
   * @returns How many messages have been dropped that may have been its own.
   */
  settle(message: string): number {
    const left = (this.#awaited.get(message) ?? 0) - 1;
    if (left > 0) this.#awaited.set(message, left);
    else this.#awaited.delete(message);
    this.#kept = this.#kept.filter((early) => this.#awaited.has(early.message));
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
