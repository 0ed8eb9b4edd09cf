/**
 * Writes a recovery's plan: every row in one transaction with its events.
 */
import type { PoolSurvey } from '../../drivers/contracts/storage.ts';
import { AgentError, assertNever } from '../../model/errors.ts';
import type { Power } from '../../model/instance.ts';
import { giveUpMaking } from '../operations/half-made.ts';
import { tellOperation } from '../operations/run-journal.ts';
import { accountLayers } from '../snapshots/layers.ts';
import type { OperationRow } from '../store/operations.ts';
import type { Store } from '../store/store.ts';
import type { HostView } from './host-view.ts';
import { GENERATION_LEAP } from './plan-instances.ts';
import type { Known, RecoveryPlan } from './planning.ts';

/** Any UUID within a plan's text. */
const UUIDS = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

/** What the store holds; all that an unfinished operation names counts as busy. */
export function knownOf(store: Store): Known {
  const instances = store.instances.list();
  return {
    images: store.images.list(),
    networks: store.networks.list(),
    volumes: store.volumes.list(),
    shares: store.shares.list(),
    instances: instances.map(({ id, name }) => ({ id, name })),
    ports: instances.flatMap(({ id }) => store.networks.portsOf(id)),
    busy: new Set(store.operations.unfinished().flatMap(idsIn)),
  };
}

function idsIn({ target, plan }: OperationRow): string[] {
  return [target.id, ...((JSON.stringify(plan) ?? '').match(UUIDS) ?? [])];
}

/** Within a transaction. */
export function writePlan(store: Store, plan: RecoveryPlan, now: string): void {
  for (const image of plan.images) store.images.insert(image);
  for (const network of plan.networks) {
    store.networks.insert(network, now);
    store.networks.setState(network.id, 'ready');
  }
  for (const instance of plan.instances) {
    store.instances.insert({ ...instance, lifecycle: 'ready' });
    // What was down may have been stopped by its user: it is not started on doubt.
    store.instances.setDesired(instance.id, isDown(instance.power) ? 'stopped' : 'running');
  }
  for (const { volume, position } of plan.volumes) store.volumes.insert(volume, position);
  for (const { id, instanceId, position } of plan.attached) store.volumes.attach(id, instanceId, position);
  for (const { volumeId, ...layers } of plan.layers) store.layers.write(volumeId, layers);
  for (const snapshot of plan.snapshots) store.snapshots.insert(snapshot);
  for (const share of plan.shares) store.shares.insert(share);
  for (const use of plan.shareUses) store.shares.attach(use);
  for (const { port, position } of plan.ports) store.networks.insertPort(port, position);
  for (const { imageId, pool } of plan.imageCopies) store.images.noteCopy(imageId, pool);
  for (const { consumerId, claim } of plan.allocations) store.allocations.add(consumerId, claim);
  for (const { volumeId } of plan.layers) accountLayers(store, volumeId);
  for (const { id } of plan.instances) store.tellInstance('instance.changed', id);
}

function isDown({ state }: Power): boolean {
  return state === 'stopped' || state === 'crashed';
}

/**
 * Brings a database that has lost its newest part to where nothing in it can do harm: what was unfinished in it
 * may have ended long ago and is not taken up, and no generation that was given since is valid again.
 * Within a transaction.
 */
export function settleBehind(store: Store, host: HostView, now: string): void {
  for (const { id, target } of store.operations.unfinished()) {
    store.operations.setError(id, overtaken().toBody());
    store.operations.end(id, 'failed', now);
    if (!settleMade(store, host, target, now)) giveUpMaking(store, target);
    tellOperation(store, id);
  }
  for (const { id } of store.instances.list()) store.instances.raiseGeneration(id, GENERATION_LEAP);
  // One of before a revert would hide the revert from the guest.
  for (const { id, generationId } of host.guests)
    if (generationId !== null) store.instances.setGenerationId(id, generationId);
}

/** What was being made, and is whole on the host, was made. @returns whether it is such a thing */
function settleMade(
  store: Store,
  host: HostView,
  { kind, id }: OperationRow['target'],
  now: string,
): boolean {
  switch (kind) {
    case 'instance': {
      const isThere = host.guests.some((guest) => guest.id === id && guest.metadata !== null);
      if (!isThere || store.instances.find(id)?.lifecycle !== 'building') return false;
      store.instances.setLifecycle(id, 'ready');
      store.volumes.setReadyOf(id);
      store.tellInstance('instance.changed', id);
      return true;
    }
    case 'volume': {
      const isThere = surveysOf(host).some(({ volumes }) =>
        volumes.some((volume) => volume.id === id && volume.fault === null),
      );
      if (!isThere || store.volumes.find(id)?.state !== 'creating') return false;
      store.volumes.setState(id, 'ready');
      return true;
    }
    case 'share': {
      const isThere = host.pool.shares.some((share) => share.id === id && share.fault === null);
      if (!isThere || store.shares.find(id)?.state !== 'creating') return false;
      store.shares.setState(id, 'ready');
      return true;
    }
    case 'image': {
      const found = host.pool.images.find((image) => image.id === id);
      if (!found?.facts || store.images.find(id)?.state !== 'importing') return false;
      store.images.setReady(id, found.facts, found.madeAt ?? now);
      return true;
    }
    case 'network': {
      const isThere = host.networks.some(({ networkId, present }) => networkId === id && present);
      if (!isThere || store.networks.find(id)?.state !== 'creating') return false;
      store.networks.setState(id, 'ready');
      return true;
    }
    case 'node':
    case 'backup':
      return false;
    default:
      return assertNever(kind);
  }
}

function surveysOf({ pool, others = [] }: HostView): PoolSurvey[] {
  return [pool, ...others.map(({ survey }) => survey)];
}

function overtaken(): AgentError {
  return new AgentError('INTERNAL', 'The database has lost what became of this operation', {
    hint: 'Look at what it was about, and ask again with a fresh key.',
  });
}
