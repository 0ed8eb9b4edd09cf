/**
 * Sees to it that every method of a class is called on a real daemon.
 *
 *   const called = record(StoragePool);
 *   … tests …
 *   t.test('every method of StoragePool was called', (t) => called.check(t));
 *
 * A method counts when a call of it succeeded. One that no daemon can carry out on a test machine must have been
 * called as well, and refused with the code that REFUSED (refused.ts) gives, with the reason. Which methods there are is
 * taken from docs/api.md. A class whose methods are too many for one file is shared out by topic (shares.ts), and each
 * file records and checks one share.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LibvirtError } from '../../src/errors.ts';
import { REFUSED } from './refused.ts';
import { inShare, type Shares } from './shares.ts';

type Method = (...args: unknown[]) => unknown;

/** What this needs of a tap test. */
interface Test {
  same(found: unknown, wanted: unknown): unknown;
  end(): unknown;
}

interface Recordable {
  readonly name: string;
  readonly prototype: object;
}

/** Wraps the methods that a class has from libvirt, so that their outcomes are seen. To be called once in a process. */
export function record<Topic extends string>(
  recorded: Recordable,
  shares?: Shares<Topic>,
  topic?: Topic,
): { check(t: Test): void } {
  const outcomes = new Map<string, Set<string>>();
  for (const name of documentedMethods(recorded.name)) {
    if (shares !== undefined && !inShare(shares, topic, name)) continue;
    outcomes.set(name, new Set());
    wrap(recorded, name, (outcome) => outcomes.get(name)?.add(outcome));
  }
  return {
    check(t) {
      t.same(
        [...outcomes].flatMap(([name, seen]) => complaints(`${recorded.name}.${name}`, seen)),
        [],
      );
      t.end();
    },
  };
}

/** Names of the methods that docs/api.md says a class has. */
export function documentedMethods(className: string): string[] {
  const table = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'api.md'), 'utf8');
  const section = table.split(/^## /m).find((text) => text.startsWith(`${className}\n`));
  const names = [...(section ?? '').matchAll(/^\| vir\w+ \| `(\w+)`/gm)].map(([, name = '']) => name);
  if (names.length === 0) throw new Error(`docs/api.md has no methods of ${className}`);
  return names;
}

function wrap({ prototype }: Recordable, name: string, tell: (outcome: string) => void): void {
  const original: unknown = Reflect.get(prototype, name);
  if (typeof original !== 'function') throw new Error(`${name} is in docs/api.md, and is no method`);
  const wrapped = async function (this: object, ...args: unknown[]): Promise<unknown> {
    try {
      const result = await (original as Method).apply(this, args);
      tell('ok');
      return result;
    } catch (error) {
      tell(error instanceof LibvirtError ? error.codeName : String(error));
      throw error;
    }
  };
  Object.defineProperty(prototype, name, { value: wrapped, configurable: true, writable: true });
}

/** What is wrong with a method's outcomes; nothing, as it should be. */
function complaints(method: string, seen: ReadonlySet<string>): string[] {
  const refusal = REFUSED[method];
  if (seen.size === 0) return [`${method} was never called`];
  if (refusal === undefined)
    return seen.has('ok') ? [] : [`${method} never succeeded: ${[...seen].join(', ')}`];
  if (seen.has('ok'))
    return refusal.unless === undefined ? [`${method} succeeds: it needs no entry in REFUSED`] : [];
  return seen.has(refusal.code) ? [] : [`${method} was refused with ${[...seen].join(', ')}`];
}
