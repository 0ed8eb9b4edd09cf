/**
 * Reading JSON that came from outside: what is nested too deep is refused before it is parsed.
 *
 * JSON.parse takes any depth, but whatever walks the value later (JSON.stringify, a log, an error message)
 * overflows the stack on it.
 */
import { AgentError } from './errors.ts';

/** Deepest nesting of objects and arrays; the deepest message of Berth has about 10. */
export const JSON_DEPTH_LIMIT = 64;

/** @throws {AgentError} INVALID_ARGUMENT: not JSON, or nested deeper than JSON_DEPTH_LIMIT. */
export function parseJson(text: string): unknown {
  if (isTooDeep(text)) {
    throw new AgentError('INVALID_ARGUMENT', `JSON is nested deeper than ${JSON_DEPTH_LIMIT}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', 'Not JSON', { cause });
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set([0x5b, 0x7b]);
const CLOSING = new Set([0x5d, 0x7d]);

/** Counts brackets outside of strings: for valid JSON that is the depth. */
function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit === QUOTE) at = endOfString(text, at);
    else if (OPENING.has(unit) && ++depth > JSON_DEPTH_LIMIT) return true;
    else if (CLOSING.has(unit)) depth--;
  }
  return false;
}

/** Index of the quote that ends the string begun at `start`; the text's length where none does. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end === -1 ? text.length : end;
}

function isEscaped(text: string, at: number): boolean {
  let before = at;
  while (text.charCodeAt(before - 1) === BACKSLASH) before--;
  return (at - before) % 2 === 1;
}
