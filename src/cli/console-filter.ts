/**
 * Takes out of a guest's console output whatever a terminal would obey.
 *
 * Escape sequences are taken out whole, so that plain text stays readable. A guest is hostile: no sequence may
 * hide more than one line or `SEQUENCE_LIMIT` characters, whatever it claims to be.
 *
 *   text ──ESC──▶ escape ──[──▶ csi ──final──▶ text
 *                    │  ──] P X ^ _──▶ string ──BEL, ESC \, line end──▶ text
 *                    └──intermediate──▶ escape ──other──▶ text
 *
 * @see ECMA-48, 5.3 to 5.6; xterm's ctlseqs
 */

/** Longest sequence that is taken out, in characters; what is longer is no sequence that terminals use. */
const SEQUENCE_LIMIT = 4096;

const UNSAFE = /^[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]$/u;
const STRING_OPENERS = ']PX^_';
const C1_STRING_OPENERS = '\u0090\u0098\u009d\u009e\u009f';
const C1_CSI = '\u009b';
const C1_STRING_END = '\u009c';
const ESCAPE = '\u001b';
const BELL = '\u0007';

type State = 'text' | 'escape' | 'csi' | 'string';

/** Keeps its place between chunks: a sequence may begin in one and end in the next. */
export class ConsoleFilter {
  #state: State = 'text';
  #sequenceLength = 0;
  #afterReturn = false;

  push(chunk: string): string {
    let out = '';
    for (const character of chunk) out += this.#step(character);
    return out;
  }

  #step(character: string): string {
    if (this.#state === 'text') return this.#inText(character);
    this.#sequenceLength += 1;
    if (character === '\n' || this.#sequenceLength > SEQUENCE_LIMIT) {
      this.#state = 'text';
      return this.#inText(character);
    }
    this.#state = this.#next(character);
    return '';
  }

  /** A carriage return would let a guest write over its own line: it ends the line instead. */
  #inText(character: string): string {
    if (character === '\r') {
      this.#afterReturn = true;
      return '';
    }
    const lead = this.#afterReturn && character !== '\n' ? '\n' : '';
    this.#afterReturn = false;
    return lead + this.#plain(character);
  }

  #plain(character: string): string {
    if (character === '\n' || character === '\t') return character;
    const opened = opens(character);
    if (opened !== 'text') {
      this.#state = opened;
      this.#sequenceLength = 0;
      return '';
    }
    return UNSAFE.test(character) ? '' : character;
  }

  #next(character: string): State {
    if (character === ESCAPE) return 'escape';
    switch (this.#state) {
      case 'escape':
        return afterEscape(character);
      case 'csi':
        return isCsiFinal(character) ? 'text' : 'csi';
      default:
        return character === BELL || character === C1_STRING_END ? 'text' : 'string';
    }
  }
}

function opens(character: string): State {
  if (character === ESCAPE) return 'escape';
  if (character === C1_CSI) return 'csi';
  return C1_STRING_OPENERS.includes(character) ? 'string' : 'text';
}

/** An intermediate byte (as in the choice of a character set) is followed by one more. */
function afterEscape(character: string): State {
  if (character === '[') return 'csi';
  if (STRING_OPENERS.includes(character)) return 'string';
  return character >= ' ' && character <= '/' ? 'escape' : 'text';
}

function isCsiFinal(character: string): boolean {
  return character >= '@' && character <= '~';
}
