/**
 * What a run has found, for people and for programs.
 */
import { isFailure, type Verdict } from './run.ts';

const MARKS = { holds: 'ok', broken: 'BROKEN', untried: 'untried' } as const;
const MARK_WIDTH = 8;
const ID_WIDTH = 26;

/** A line for a verdict, and one more for its reason. */
export function lineOf({ id, level, text, verdict, why }: Verdict): string {
  const mark = verdict === 'broken' && level === 'should' ? 'weak' : MARKS[verdict];
  const line = `${mark.padEnd(MARK_WIDTH)}${id.padEnd(ID_WIDTH)}${level === 'must' ? '' : '(should) '}${text}`;
  return why === '' ? line : `${line}\n${' '.repeat(MARK_WIDTH + ID_WIDTH)}${why}`;
}

export function summaryOf(verdicts: readonly Verdict[]): string {
  const count = (verdict: Verdict['verdict']) => verdicts.filter((each) => each.verdict === verdict).length;
  const failures = verdicts.filter(isFailure).length;
  const verdict = failures === 0 ? 'conforms' : `does not conform: ${failures} broken that must hold`;
  return `${count('holds')} hold, ${count('broken')} broken, ${count('untried')} untried: it ${verdict}`;
}

export function jsonOf(side: 'agent' | 'scheduler', verdicts: readonly Verdict[]): string {
  return JSON.stringify({ side, conforms: !verdicts.some(isFailure), clauses: verdicts });
}
