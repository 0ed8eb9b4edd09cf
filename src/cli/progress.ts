/**
 * The live line of a waiting command, on standard error, only where that is a terminal.
 */
import type { Operation } from '../model/operation.ts';
import type { Io } from './io.ts';
import { clean } from './render/text.ts';
import { formatSeconds } from './render/units.ts';

const CLEAR_LINE = '\r\u001b[K';
/** Width where the terminal does not say its own, in columns. */
const COLUMNS_DEFAULT = 80;

export class Progress {
  readonly #io: Io;
  readonly #startedMs: number;
  #shown = false;

  constructor(io: Io) {
    this.#io = io;
    this.#startedMs = io.clock.nowMs();
  }

  show({ kind, target, state, progress }: Operation): void {
    if (!this.#io.stderr.isTTY) return;
    const spent = formatSeconds(this.#io.clock.nowMs() - this.#startedMs);
    const text = `${kind} ${target.name}: ${progress.step ?? state}, ${progress.percent} %, ${spent}`;
    const columns = this.#io.stderr.columns || COLUMNS_DEFAULT;
    this.#io.stderr.write(CLEAR_LINE + clean(text, columns - 1));
    this.#shown = true;
  }

  clear(): void {
    if (this.#shown) this.#io.stderr.write(CLEAR_LINE);
    this.#shown = false;
  }
}
