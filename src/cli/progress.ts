/**
 * The live line of a waiting command, on standard error, only where that is a terminal.
 */
import type { Operation } from '../model/operation.ts';
import type { Io } from './io.ts';
import { clean } from './render/text.ts';
import { formatBytes, formatSeconds } from './render/units.ts';

const CLEAR_LINE = '\r\u001b[K';
/** Width where the terminal does not say its own, in columns. */
const COLUMNS_DEFAULT = 80;

/** "42 %", and for what moves bytes "42 %, fetching 215 MiB of 512 MiB". */
function howFar({ percent, phase, bytes }: Operation['progress']): string {
  if (bytes === null) return `${percent} %`;
  const total = bytes.total === null ? '' : ` of ${formatBytes(bytes.total)}`;
  return `${percent} %, ${phase ?? 'moved'} ${formatBytes(bytes.done)}${total}`;
}

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
    const text = `${kind} ${target.name}: ${progress.step ?? state}, ${howFar(progress)}, ${spent}`;
    const columns = this.#io.stderr.columns || COLUMNS_DEFAULT;
    this.#io.stderr.write(CLEAR_LINE + clean(text, columns - 1));
    this.#shown = true;
  }

  clear(): void {
    if (this.#shown) this.#io.stderr.write(CLEAR_LINE);
    this.#shown = false;
  }
}
