/**
 * volume.configure: what a volume is called, whether it may be deleted, and how much a guest gets of it.
 *
 * The change is in the store when it is accepted, so that the next command sees it. Then it goes to where the host keeps
 * it: the label beside the volume, the definition of its instance, and the guest that runs. Where the host refuses, all
 * of them are as they were.
 */
import { isDeepStrictEqual } from 'node:util';
import type { GuestDefinition } from '../../drivers/contracts/hypervisor.ts';
import type { VolumeLabel } from '../../drivers/contracts/storage.ts';
import type { Params } from '../../model/methods.ts';
import type { Volume } from '../../model/storage.ts';
import { assertPossible } from '../instances/admit.ts';
import { planInstance, serialOf, volumeRequest } from '../instances/plan.ts';
import { defineGuest } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import type { Store } from '../store/store.ts';
import type { VolumeSettings } from '../store/volumes.ts';
import { assertNameFree } from './admit.ts';
import { targetOf } from './grow.ts';

/** What is where, before or after. */
interface Side {
  settings: VolumeSettings;
  label: VolumeLabel;
  /** Null for a volume that no instance has. */
  definition: GuestDefinition | null;
}

interface ConfigurePlan {
  id: string;
  instanceId: string | null;
  before: Side;
  after: Side;
}

type Change = Pick<Params<'volume.configure'>, 'name' | 'protected' | 'qos'>;

export function configureVolume(services: Services): OperationKind<'volume.configure', ConfigurePlan> {
  const { store } = services;
  return {
    method: 'volume.configure',
    version: 1,
    stages: [[label(services)], [redefine(services)], [limit(services)]],
    accept({ id, generation, ...change }) {
      const volume = store.volumes.get(id);
      const target = targetOf(services, volume, generation === undefined ? {} : { generation });
      const before = settingsOf(volume);
      const after = changed(store, before, change);
      if (isDeepStrictEqual(after, before)) return { verdict: 'done', target };
      return { verdict: 'run', target, plan: write(services, volume, after) };
    },
    succeeded: ({ id, after: { settings } }) => tell(store, id, settings.name),
    undone(plan) {
      const { id, before, after } = plan;
      const volume = store.volumes.find(id);
      // What a later command has made of it stays.
      if (volume === null || !isDeepStrictEqual(settingsOf(volume), after.settings)) return;
      store.volumes.configure(id, before.settings);
      tell(store, id, before.settings.name);
    },
  };
}

function settingsOf({ name, protected: isProtected, qos }: Volume): VolumeSettings {
  return { name, protected: isProtected, qos };
}

/** @throws {AgentError} ALREADY_EXISTS, INVALID_ARGUMENT */
function changed(store: Store, before: VolumeSettings, change: Change): VolumeSettings {
  const { name = before.name, protected: isProtected = before.protected } = change;
  const qos = change.qos === undefined ? before.qos : noneAsNull(change.qos);
  assertPossible({}, qos);
  if (name !== before.name) assertNameFree({ store }, name);
  return { name, protected: isProtected, qos };
}

function noneAsNull(qos: VolumeSettings['qos']): VolumeSettings['qos'] {
  return qos === null || Object.keys(qos).length === 0 ? null : qos;
}

function write(services: Services, volume: Volume, settings: VolumeSettings): ConfigurePlan {
  const { store } = services;
  const { id, instanceId } = volume;
  const before = sideOf(services, volume);
  store.volumes.configure(id, settings);
  if (instanceId !== null) {
    store.instances.nextGeneration(instanceId);
    store.tellInstance('instance.changed', instanceId);
  }
  return { id, instanceId, before, after: sideOf(services, store.volumes.get(id)) };
}

function sideOf({ store, pools }: Services, volume: Volume): Side {
  const { instanceId } = volume;
  const definition =
    instanceId === null ? null : planInstance(store, pools, store.instances.get(instanceId)).definition;
  return {
    settings: settingsOf(volume),
    label: volumeRequest(store, volume).label as VolumeLabel,
    definition,
  };
}

/** A step that brings one side about, and the other one back. */
function both(
  name: string,
  to: (side: Side, plan: ConfigurePlan, signal: AbortSignal) => Promise<void>,
): Step<ConfigurePlan> {
  return {
    name,
    look: async () => null, // idempotent
    act: (plan, { signal }) => to(plan.after, plan, signal),
    undo: (plan, { signal }) => to(plan.before, plan, signal),
  };
}

function label({ pools }: Services): Step<ConfigurePlan> {
  return both('label', ({ label }, { id }, signal) => pools.holding(id).labelVolume(id, label, { signal }));
}

function redefine(services: Services): Step<ConfigurePlan> {
  return both('define', async ({ definition }, _plan, signal) => {
    if (definition !== null) await defineGuest(services, definition, signal);
  });
}

function limit({ hypervisor }: Services): Step<ConfigurePlan> {
  return both('limit', async ({ settings }, { id, instanceId, before, after }, signal) => {
    if (instanceId === null || isDeepStrictEqual(before.settings.qos, after.settings.qos)) return;
    await hypervisor.limitDisk(instanceId, serialOf(id), settings.qos, { signal });
  });
}

function tell(store: Store, id: string, name: string): void {
  const volume = store.volumes.get(id);
  if (volume.instanceId !== null) store.tellInstance('instance.changed', volume.instanceId);
  store.events.append('volume.changed', { kind: 'volume', id, name }, { volume });
}
