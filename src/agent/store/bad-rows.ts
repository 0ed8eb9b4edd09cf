/**
 * Whether every row that the agent works with still is what its schema says: the last look at a database that
 * is opened, since a row of an older version has no seal.
 */
import { AgentError } from '../../model/errors.ts';
import { Instance } from '../../model/instance.ts';
import { Network } from '../../model/network.ts';
import type { TSchema } from '../../model/schema.ts';
import { Share } from '../../model/share.ts';
import { Image, Volume } from '../../model/storage.ts';
import { findFault } from '../../model/validate.ts';
import type { Store } from './store.ts';

/** One sentence about the first row that can't be true; null where there is none. */
export function findBadRow(store: Store): string | null {
  const tables: [name: string, schema: TSchema, list: () => unknown[]][] = [
    ['images', Image, () => store.images.list()],
    ['networks', Network, () => store.networks.list()],
    ['volumes', Volume, () => store.volumes.list()],
    ['shares', Share, () => store.shares.list()],
    ['instances', Instance, () => store.instances.list()],
    ['reservations', {} as TSchema, () => store.reservations.list()],
    ['operations', {} as TSchema, () => store.operations.unfinished()],
  ];
  for (const [name, schema, list] of tables) {
    const fault = faultIn(schema, list);
    if (fault !== null) return `a row of ${name} is none: ${fault}`;
  }
  return store.events.lastSeq() >= 0 ? null : 'the number of its newest event is none';
}

function faultIn(schema: TSchema, list: () => unknown[]): string | null {
  try {
    for (const item of list()) {
      const fault = findFault(schema, item);
      if (fault !== null) return `${fault.path.join('.')} ${fault.message}`;
    }
    return null;
  } catch (error) {
    // JSON that can't be parsed, or a row that refers to none. A disk that fails says so itself.
    if (error instanceof AgentError && error.code === 'UNAVAILABLE') throw error;
    return error instanceof Error ? error.message : String(error);
  }
}
