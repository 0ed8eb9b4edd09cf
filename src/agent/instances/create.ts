/**
 * instance.create: disks, seed and ports together, then the definition, with its shares in it, then the start.
 *
 * A create that fails or is cancelled ends as if it had never been asked: every step is undone, the rows go.
 */
import { randomUUID } from 'node:crypto';
import type { OperationKind, Step } from '../operations/kind.ts';
import { BRING_TIMEOUT_MS, needsCopy } from '../pools/images.ts';
import type { Services } from '../services.ts';
import { assertSharesUsable } from '../shares/admit.ts';
import { accountLayer } from '../snapshots/layers.ts';
import { admitInstance } from './admit.ts';
import { planInstance } from './plan.ts';
import { type SeededPlan, seedOf, withVendorData } from './seed.ts';
import { bindPorts, confirm, define, makeSeed, makeVolumes, start } from './steps.ts';
import { imagesOfInstance, thingsOfInstance } from './things.ts';

export function createInstance(services: Services): OperationKind<'instance.create', SeededPlan> {
  const { store, pools, reservations } = services;
  return {
    method: 'instance.create',
    version: 1,
    stages: [
      [makeVolumes(services), makeSeed(services), bindPorts(services)],
      [defineWithShares(services)],
      [start(services)],
      [confirm(services, ['running'])],
    ],
    // An image that is copied to another pool takes its time; else the configured limit holds.
    timeoutMs: ({ ownVolumes }) => (ownVolumes.some(needsCopy) ? BRING_TIMEOUT_MS : undefined),
    makes: (plan) => [...thingsOfInstance(services, plan), ...imagesOfInstance(services, plan)],
    accept({ id = randomUUID(), spec: asked, reservation }) {
      const spec = withVendorData(services, asked);
      if (reservation !== undefined) reservations.consume(reservation, id);
      const base = planInstance(store, pools, admitInstance(services, id, spec));
      const plan = { ...base, seed: seedOf(base, spec) };
      return { verdict: 'run', target: { kind: 'instance', id, name: spec.name }, plan };
    },
    succeeded({ id }) {
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      reservations.consumed(id);
      store.tellInstance('instance.changed', id);
    },
    undone({ id }) {
      forgetInstance(services, id);
      reservations.giveBack(id);
    },
  };
}

/** The same step; a host that can give guests no shares is asked before. */
export function defineWithShares(services: Services): Step<SeededPlan> {
  const step = define(services);
  return {
    ...step,
    async act(plan, context) {
      const { shares = [] } = plan.definition;
      if (shares.length > 0) await assertSharesUsable(services, { signal: context.signal });
      return step.act(plan, context);
    },
  };
}

/** Removes every row of an instance; within the transaction that ends its operation. */
export function forgetInstance({ store }: Services, id: string, { wipe = false } = {}): void {
  const instance = store.instances.find(id);
  if (instance === null) return; // an earlier delete in its queue has done it
  const layers = store.volumes.listOf(id).flatMap((volume) => store.layers.of(volume.id).layers);
  for (const snapshot of store.snapshots.listOf(id)) store.allocations.remove(snapshot.id);
  store.networks.removePortsOf(id);
  store.volumes.releaseOf(id);
  for (const layer of layers) accountLayer(store, layer.id);
  store.shares.releaseOf(id);
  store.allocations.remove(id);
  store.instances.remove(id);
  store.events.append('instance.deleted', { kind: 'instance', id, name: instance.name }, { id, wipe });
}
