/**
 * share.create and share.delete: folders that the node keeps for guests.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import type { ShareLabel, ShareRequest } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Params } from '../../model/methods.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Share } from '../../model/share.ts';
import type { OperationKind } from '../operations/kind.ts';
import type { Services } from '../services.ts';

/** Millions of files, on a slow disk, ms. */
const REMOVE_TIMEOUT_MS = 6 * 3600_000;

export function createShare(services: Services): OperationKind<'share.create', ShareRequest> {
  const { store, pool } = services;
  return {
    method: 'share.create',
    version: 1,
    stages: [
      [
        {
          name: 'make-folder',
          look: async () => null, // idempotent, and what a crash left of its making goes
          act: (plan, { signal }) => pool.makeShare(plan, { signal }),
          undo: ({ id }, { signal }) => pool.removeShare(id, { signal, files: 'kept' }),
        },
      ],
    ],
    makes: ({ id }) => [{ kind: 'share', name: pool.paths.share(id) }],
    accept(params) {
      const share = admit(services, params);
      const { id, name } = share;
      return { verdict: 'run', target: { kind: 'share', id, name }, plan: { id, label: labelOf(share) } };
    },
    succeeded({ id }) {
      store.shares.setState(id, 'ready');
      const share = store.shares.get(id);
      store.events.append('share.created', { kind: 'share', id, name: share.name }, { share });
    },
    undone: ({ id }) => forget(services, id),
  };
}

/** What is kept of a share beside it. */
export function labelOf({ name, createdAt, quotaGib, protected: isProtected }: Share): ShareLabel {
  return { name, createdAt, quotaGib, protected: isProtected };
}

/** @throws {AgentError} ALREADY_EXISTS */
export function assertShareNameFree({ store }: Pick<Services, 'store'>, name: string): void {
  if (!store.shares.nameTaken(name)) return;
  throw new AgentError('ALREADY_EXISTS', `There is a share ${name} on this node already`, {
    hint: 'Choose another name.',
  });
}

/** A share takes of the pool what its quota lets it. One without takes what is in it, as others' files do. */
export function allocateShare({ store }: Services, id: string, quotaGib: number | null): void {
  store.allocations.setDisks(id, quotaGib === null ? {} : { [DEFAULT_POOL]: quotaGib });
}

/** @throws {AgentError} ALREADY_EXISTS, CAPACITY_EXCEEDED */
function admit(services: Services, params: Params<'share.create'>): Share {
  const { store, pool, clock, inventories } = services;
  const { name, quotaGib = null, protected: isProtected = false } = params;
  assertShareNameFree(services, name);
  if (quotaGib !== null) inventories.assertRoom({ disks: { [DEFAULT_POOL]: quotaGib } });
  const id = randomUUID();
  const createdAt = timestamp(clock);
  const row = { id, name, pool: pool.name, quotaGib, protected: isProtected, createdAt };
  store.shares.insert({ ...row, state: 'creating' });
  allocateShare(services, id, quotaGib);
  return store.shares.get(id);
}

function forget({ store }: Services, id: string): void {
  store.allocations.remove(id);
  store.shares.remove(id);
}

export function deleteShare(services: Services): OperationKind<'share.delete', { id: string; name: string }> {
  const { store, pool } = services;
  return {
    method: 'share.delete',
    version: 1,
    timeoutMs: () => REMOVE_TIMEOUT_MS,
    stages: [
      [
        {
          name: 'remove-folder',
          look: async () => null,
          act: ({ id }, { signal }) => pool.removeShare(id, { signal, files: 'removed' }),
        },
      ],
    ],
    removes: ({ id }) => [{ kind: 'share', name: pool.paths.share(id) }],
    accept(params) {
      const share = store.shares.get(params.id);
      const { id, name } = share;
      assertDeletable(share);
      store.shares.setState(id, 'deleting');
      return { verdict: 'run', target: { kind: 'share', id, name }, plan: { id, name } };
    },
    succeeded({ id, name }) {
      forget(services, id);
      store.events.append('share.deleted', { kind: 'share', id, name }, { id });
    },
    undone: () => undefined,
  };
}

/** @throws {AgentError} ILLEGAL_STATE */
function assertDeletable({ name, users, protected: isProtected, state }: Share): void {
  const refuse = (reason: string, hint: string) =>
    new AgentError('ILLEGAL_STATE', `Share ${name} ${reason}`, { hint });
  const [user] = users;
  if (user !== undefined)
    throw refuse(`is in use by instance ${user.instance}`, 'Detach it first: berth share detach.');
  if (isProtected)
    throw refuse('is protected from deletion', 'Take that back first: berth share configure --unprotect.');
  if (state === 'creating') throw refuse('is being made', 'Cancel that operation instead.');
}
