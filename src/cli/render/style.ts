/**
 * Colour: only on a terminal, never with NO_COLOR (no-color.org), and only for words that say how something is.
 */
import type { Output } from '../io.ts';

export type Tone = 'good' | 'busy' | 'bad' | 'faint' | 'strong';

export type Paint = (text: string, tone: Tone | undefined) => string;

/** SGR parameters. @see ECMA-48, 8.3.117 */
const SGR: Record<Tone, string> = { good: '32', busy: '33', bad: '31', faint: '2', strong: '1' };

const TONES = new Map<string, Tone>([
  ...words('good', ['running', 'ready', 'ok', 'succeeded', 'done']),
  ...words('busy', [
    'paused',
    'stopping',
    'building',
    'deleting',
    'importing',
    'creating',
    'pending',
    'undoing',
  ]),
  ...words('busy', ['degraded', 'warning', 'unknown', 'begun', 'cancelled']),
  ...words('bad', ['crashed', 'failed', 'failure', 'unavailable']),
  ...words('faint', ['stopped', 'waiting', 'undone']),
]);

/** The tone of a state word, undefined for words without one. */
export function toneOf(word: string): Tone | undefined {
  return TONES.get(word);
}

export function paintFor(output: Output, env: Readonly<Record<string, string | undefined>>): Paint {
  const coloured = output.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
  return coloured ? paint : (text) => text;
}

function paint(text: string, tone: Tone | undefined): string {
  return tone === undefined ? text : `\u001b[${SGR[tone]}m${text}\u001b[0m`;
}

function words(tone: Tone, of: string[]): [string, Tone][] {
  return of.map((word) => [word, tone]);
}
