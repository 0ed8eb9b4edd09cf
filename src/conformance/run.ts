/**
 * Tries clauses one after the other, and says of each whether it holds.
 */
import { Broken, type Clause, excerpt, type Level, Untried } from './clause.ts';

export interface Verdict {
  id: string;
  level: Level;
  text: string;
  verdict: 'holds' | 'broken' | 'untried';
  /** What was seen instead, or why it was not tried; empty where it holds. */
  why: string;
}

export interface RunOptions {
  /** Ids to try; all where it is empty. */
  only: readonly string[];
  /** Whether changes may be asked for. */
  changes: boolean;
  /** Told each verdict as it is found. */
  onVerdict(verdict: Verdict): void;
}

export async function tryClauses<Bench>(
  clauses: readonly Clause<Bench>[],
  bench: Bench,
  { only, changes, onVerdict }: RunOptions,
): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const clause of clauses) {
    if (only.length > 0 && !only.includes(clause.id)) continue;
    const verdict = clause.changes && !changes ? notAllowed(clause) : await tryOne(clause, bench);
    verdicts.push(verdict);
    onVerdict(verdict);
  }
  return verdicts;
}

/** A clause that must hold and does not. */
export function isFailure({ level, verdict }: Verdict): boolean {
  return level === 'must' && verdict === 'broken';
}

async function tryOne<Bench>(clause: Clause<Bench>, bench: Bench): Promise<Verdict> {
  try {
    await clause.check(bench);
    return of(clause, 'holds', '');
  } catch (error) {
    if (error instanceof Broken) return of(clause, 'broken', error.message);
    if (error instanceof Untried) return of(clause, 'untried', error.message);
    throw new Error(`clause ${clause.id}: ${excerpt((error as Error).message)}`, { cause: error });
  }
}

function notAllowed<Bench>(clause: Clause<Bench>): Verdict {
  return of(clause, 'untried', 'it asks for changes; allow them with --changes');
}

function of<Bench>({ id, level, text }: Clause<Bench>, verdict: Verdict['verdict'], why: string): Verdict {
  return { id, level, text, verdict, why };
}
