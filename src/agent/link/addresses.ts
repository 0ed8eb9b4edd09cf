/**
 * Which of the scheduler's addresses is dialled: the one that worked last, else the next in turn; the first is home.
 */
export class Addresses {
  readonly #alternates: readonly string[];
  #at = 0;

  /** @param alternates Addresses besides the first one, which may change with the certificate. */
  constructor(alternates: readonly string[]) {
    this.#alternates = alternates;
  }

  /** The one to dial, where it is not the first. */
  get alternate(): string | null {
    return this.#alternates[this.#at - 1] ?? null;
  }

  /** Whether there is another one to go to where one does not answer. */
  get hasOthers(): boolean {
    return this.#alternates.length > 0;
  }

  get isHome(): boolean {
    return this.#at === 0;
  }

  /** The current one has come to nothing. */
  rotate(): void {
    this.#at = (this.#at + 1) % (this.#alternates.length + 1);
  }

  goHome(): void {
    this.#at = 0;
  }
}
