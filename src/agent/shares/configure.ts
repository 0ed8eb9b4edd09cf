/**
 * share.configure: what a share is called, whether it may be deleted, and how much it may hold.
 *
 * The change is in the store when it is accepted, so that the next command sees it, and then goes to where the host
 * keeps it: the label beside the share, and the quota of the file system. Guests notice neither name nor protection.
 */
import { isDeepStrictEqual } from 'node:util';
import { AgentError } from '../../model/errors.ts';
import type { Params } from '../../model/methods.ts';
import type { ShareLabel } from '../../drivers/contracts/storage.ts';
import type { Share } from '../../model/share.ts';
import type { OperationKind } from '../operations/kind.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import type { Services } from '../services.ts';
import type { ShareSettings } from '../store/shares.ts';
import { allocateShare, assertShareNameFree, labelOf } from './operations.ts';

interface ConfigurePlan {
  id: string;
  before: ShareLabel;
  after: ShareLabel;
}

type Change = Pick<Params<'share.configure'>, 'name' | 'protected' | 'quotaGib'>;

export function configureShare(services: Services): OperationKind<'share.configure', ConfigurePlan> {
  const { store, pool } = services;
  return {
    method: 'share.configure',
    version: 1,
    stages: [
      [
        {
          name: 'label',
          look: async () => null, // idempotent
          act: ({ id, after }, { signal }) => pool.configureShare(id, after, { signal }),
          undo: ({ id, before }, { signal }) => pool.configureShare(id, before, { signal }),
        },
      ],
    ],
    accept({ id: nameOrId, ...change }) {
      const share = store.shares.get(nameOrId);
      const { id, name, state } = share;
      if (state !== 'ready') throw new AgentError('ILLEGAL_STATE', `Share ${name} is ${state}`);
      const target = { kind: 'share', id, name } as const;
      const after = changed(services, share, change);
      if (isDeepStrictEqual(after, settingsOf(share))) return { verdict: 'done', target };
      return { verdict: 'run', target, plan: write(services, share, after) };
    },
    succeeded: ({ id }) => tell(services, id),
    undone(plan) {
      const share = store.shares.find(plan.id);
      // What a later command has made of it stays.
      if (share === null || !isDeepStrictEqual(labelOf(share), plan.after)) return;
      store.shares.configure(plan.id, plan.before);
      allocateShare(services, plan.id, plan.before.quotaGib);
      tell(services, plan.id);
    },
  };
}

function settingsOf({ name, protected: isProtected, quotaGib }: Share): ShareSettings {
  return { name, protected: isProtected, quotaGib };
}

/** @throws {AgentError} ALREADY_EXISTS, CAPACITY_EXCEEDED */
function changed(services: Services, share: Share, change: Change): ShareSettings {
  const { name = share.name, protected: isProtected = share.protected, quotaGib = share.quotaGib } = change;
  if (name !== share.name) assertShareNameFree(services, name);
  const moreGib = (quotaGib ?? 0) - (share.quotaGib ?? 0);
  if (moreGib > 0) services.inventories.assertRoom({ disks: { [DEFAULT_POOL]: moreGib } });
  return { name, protected: isProtected, quotaGib };
}

function write(services: Services, share: Share, settings: ShareSettings): ConfigurePlan {
  const { store } = services;
  const { id } = share;
  store.shares.configure(id, settings);
  allocateShare(services, id, settings.quotaGib);
  return { id, before: labelOf(share), after: labelOf(store.shares.get(id)) };
}

/** Instances show what their shares are called. */
function tell({ store }: Services, id: string): void {
  const share = store.shares.get(id);
  for (const { instanceId } of share.users) store.tellInstance('instance.changed', instanceId);
  store.events.append('share.changed', { kind: 'share', id, name: share.name }, { share });
}
