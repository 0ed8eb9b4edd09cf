/**
 * Text that came from the agent, from guests or from the host, made safe for a terminal.
 *
 * A name or a reason may hold escape sequences that recolour, retitle or rewrite the operator's screen, and
 * format characters that reverse or hide what is read. None of them reaches a table or a message.
 */

/** Longest text in a message or a field, in characters: the rest says nothing to a reader. */
export const TEXT_LIMIT = 2000;

/** Control, format, line-separating and lone surrogate characters, of every Unicode version that Node has. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const ZERO_WIDTH = /\p{M}/u;
const DOUBLE_WIDTH =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\uff01-\uff60]/u;

/** One line of printable text: what is unsafe becomes `?`, what is beyond `limit` characters becomes `…`. */
export function clean(value: unknown, limit = TEXT_LIMIT): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  const safe = text.slice(0, limit + 1).replace(UNSAFE, '?');
  return safe.length > limit ? `${safe.slice(0, limit - 1)}…` : safe;
}

/** Columns that `text` takes on a terminal. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (ZERO_WIDTH.test(character)) continue;
    width += DOUBLE_WIDTH.test(character) ? 2 : 1;
  }
  return width;
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - widthOf(text))) + text;
}
