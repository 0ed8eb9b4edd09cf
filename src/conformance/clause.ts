/**
 * A clause of the protocol: what one side owes the other, and how that is tried from the other side of a link.
 *
 * A clause holds when its check returns. It is broken when the check throws Broken, and was not tried when it throws
 * Untried. Anything else that is thrown is a fault of the kit.
 */

/** `must`: who breaks it can't be used with others. `should`: it works, and worse than it could. */
export type Level = 'must' | 'should';

export interface Clause<Bench> {
  /** Stable, for scripts: a noun and a word. */
  id: string;
  level: Level;
  /** What is owed, as a sentence about the side that is tried. */
  text: string;
  /** It asks for changes (volumes are made and deleted): tried only where that is allowed. */
  changes?: true;
  check(bench: Bench): Promise<void>;
}

/** The far side did something else than the clause says. */
export class Broken extends Error {
  override name = 'Broken';
}

/** What the clause is about did not come up, or may not be asked for. */
export class Untried extends Error {
  override name = 'Untried';
}

/** @throws {Broken} unless it is so. */
export function must(isSo: boolean, otherwise: string): asserts isSo {
  if (!isSo) throw new Broken(otherwise);
}

/** A far side's word in a message: printable, and no longer than a line. */
export function excerpt(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  const safe = text.replaceAll(/[^ -~]/g, '?');
  return safe.length > 120 ? `${safe.slice(0, 117)}...` : safe;
}
