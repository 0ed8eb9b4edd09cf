/**
 * The judge's ledger, on the store: each question is answered by the rows as they are at that moment.
 */
import { basename } from 'node:path';
import { assertNever } from '../../model/errors.ts';
import { GUEST_NAME_PREFIX } from '../instances/plan.ts';
import type { NameRow } from '../store/names.ts';
import type { Store } from '../store/store.ts';
import type { Ledger } from './judge.ts';
import type { Thing } from './thing.ts';

/** What follows the guest's name in the name of a file that the hypervisor keeps for it. */
const KEPT_SUFFIX = /(_VARS\.\w+|\.save)$/;

export function storeLedger(store: Store): Ledger {
  return {
    owns: (thing) => owns(store, thing),
    lives: (object) => lives(store, object),
    entryOf: (kind, name) => store.names.find(kind, name),
  };
}

function owns(store: Store, thing: Thing): boolean {
  const id = thing.objectId ?? '';
  switch (thing.kind) {
    case 'guest':
    case 'seed':
    case 'console':
      return store.instances.find(id) !== null;
    case 'secret':
      return store.volumes.find(id) !== null;
    case 'volume': // a copy of it in another pool is none of its files
      return store.volumes.find(id)?.pool === thing.pool;
    case 'share':
      return store.shares.find(id) !== null;
    case 'image':
      return store.images.find(id) !== null;
    case 'tap':
      return store.networks.hasPort(thing.name);
    case 'dhcp-reservation':
      return store.networks.hasPort(id);
    case 'nvram':
    case 'saved-memory':
      return store.instances.find(instanceNameOf(thing.name)) !== null;
    case 'bridge':
      return (
        store.networks.find(id) !== null || store.networks.list().some(({ bridge }) => bridge === thing.name)
      );
    case 'nft-table':
    case 'dhcp-process':
    case 'dhcp-unit':
    case 'dhcp-folder':
      return store.networks.find(id) !== null;
    default:
      return assertNever(thing.kind);
  }
}

function lives(store: Store, { kind, id }: NameRow['object']): boolean {
  switch (kind) {
    case 'instance':
      return store.instances.find(id) !== null;
    case 'volume':
      return store.volumes.find(id) !== null;
    case 'share':
      return store.shares.find(id) !== null;
    case 'image':
      return store.images.find(id) !== null;
    case 'network':
      return store.networks.find(id) !== null;
    case 'node':
    case 'backup': // nothing of it is on the host
      return true;
    default:
      return assertNever(kind);
  }
}

function instanceNameOf(path: string): string {
  return basename(path).replace(KEPT_SUFFIX, '').slice(GUEST_NAME_PREFIX.length);
}
