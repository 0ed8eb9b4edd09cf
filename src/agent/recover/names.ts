/**
 * Names of what is recovered: the one it has, where that is free, else one made from its id.
 */
import type { RecoveredKind } from '../../model/recovery.ts';

/** Hexadecimal digits of an id in a name that is made from it. */
const DIGITS = 8;

export class Names {
  readonly #taken: Record<RecoveredKind, Set<string>>;

  constructor(
    known: Record<'instances' | 'images' | 'volumes' | 'shares' | 'networks', readonly { name: string }[]>,
  ) {
    const namesOf = (objects: readonly { name: string }[]) => new Set(objects.map(({ name }) => name));
    this.#taken = {
      instance: namesOf(known.instances),
      image: namesOf(known.images),
      volume: namesOf(known.volumes),
      share: namesOf(known.shares),
      network: namesOf(known.networks),
    };
  }

  /** Takes a name for good: the first of `wanted` that is free, else one of its own. */
  take(kind: RecoveredKind, id: string, wanted: readonly (string | null | undefined)[]): string {
    const digits = id.replaceAll('-', '');
    const made = Array.from({ length: digits.length - DIGITS + 1 }, (_, more) =>
      `${kind}-${digits.slice(0, DIGITS + more)}`.slice(0, 40),
    );
    const name = [...wanted, ...made].find((each) => each && !this.#taken[kind].has(each)) as string;
    this.#taken[kind].add(name);
    return name;
  }
}
