/**
 * volume.attach and volume.detach: volumes of their own as disks of an instance, running or not.
 *
 * Both are operations on the instance, so that nothing else changes its disks meanwhile. Until the volume is out of the
 * definition and of the running guest, its row says that the instance has it: nobody else can take it.
 */
import type { GuestDisk } from '../../drivers/contracts/hypervisor.ts';
import { AgentError } from '../../model/errors.ts';
import { DISKS_MAX, type Instance } from '../../model/instance.ts';
import type { Volume } from '../../model/storage.ts';
import { assertPossible, freeVolume } from '../instances/admit.ts';
import { diskOf, planInstance } from '../instances/plan.ts';
import { requestOf } from '../instances/request.ts';
import { type Redefinition, redefine } from '../instances/steps.ts';
import type { OperationKind, Step } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { assertUnlayered } from '../snapshots/layers.ts';
import { handOverKeys } from './encryption.ts';

/** Beyond what the guest is given to let go, ms. */
const SLACK_MS = 60_000;

interface DiskPlan extends Redefinition {
  /** Of the instance. */
  id: string;
  volume: { id: string; name: string };
  disk: GuestDisk;
}

interface DetachPlan extends DiskPlan {
  timeoutMs: number;
}

export function attachVolume(services: Services): OperationKind<'volume.attach', DiskPlan> {
  const { store } = services;
  return {
    method: 'volume.attach',
    version: 1,
    stages: [[redefine(services)], [plug(services)]],
    accept: ({ id, instance: instanceName, device = {}, ...fence }) => {
      assertPossible(device, null);
      const { instance, target } = requestOf(services, 'change disks of', { id: instanceName, ...fence });
      if (store.volumes.get(id).instanceId === instance.id) return { verdict: 'done', target };
      const volume = freeVolume(store, id);
      assertPlace(services, instance);
      return { verdict: 'run', target, plan: writeAttached(services, instance, { ...volume, device }) };
    },
    succeeded: (plan) => tell(services, 'volume.attached', plan),
    undone: ({ volume }) => store.volumes.detach(volume.id),
  };
}

export function detachVolume(services: Services): OperationKind<'volume.detach', DetachPlan> {
  const { store, pools } = services;
  return {
    method: 'volume.detach',
    version: 1,
    timeoutMs: ({ timeoutMs }) => timeoutMs + SLACK_MS,
    stages: [[unplug(services)], [redefine(services)]],
    accept: ({ id, timeoutSeconds, ...fence }) => {
      const volume = store.volumes.get(id);
      if (volume.instanceId === null) return { verdict: 'done', target: targetOf(volume) };
      const { instance, target } = requestOf(services, 'change disks of', {
        id: volume.instanceId,
        ...fence,
      });
      assertDetachable(services, volume, instance);
      const { definition: previousDefinition } = planInstance(store, pools, instance);
      store.instances.nextGeneration(instance.id);
      store.tellInstance('instance.changed', instance.id);
      const left = store.volumes.listOf(instance.id).filter((each) => each.id !== volume.id);
      const { definition } = planInstance(store, pools, store.instances.get(instance.id), left);
      const timeoutMs = timeoutSeconds * 1000;
      return {
        verdict: 'run',
        target,
        plan: { ...shared(services, volume), definition, previousDefinition, timeoutMs },
      };
    },
    succeeded: (plan) => {
      store.volumes.detach(plan.volume.id);
      tell(services, 'volume.detached', plan);
    },
    undone: () => undefined,
  };
}

function writeAttached(services: Services, instance: Instance, volume: Volume): DiskPlan {
  const { store, pools } = services;
  const { definition: previousDefinition } = planInstance(store, pools, instance);
  store.volumes.attach(volume.id, instance.id, store.volumes.freePosition(instance.id));
  store.volumes.setDevice(volume.id, volume.device);
  store.instances.nextGeneration(instance.id);
  store.tellInstance('instance.changed', instance.id);
  const { definition } = planInstance(store, pools, store.instances.get(instance.id));
  return { ...shared(services, store.volumes.get(volume.id)), definition, previousDefinition };
}

function shared({ store, pools }: Services, volume: Volume): Pick<DiskPlan, 'id' | 'volume' | 'disk'> {
  const { id, name, instanceId } = volume;
  return { id: instanceId as string, volume: { id, name }, disk: diskOf(store, pools, volume) };
}

function plug(services: Services): Step<DiskPlan> {
  const { hypervisor } = services;
  return {
    name: 'plug',
    look: async () => null, // idempotent
    act: (plan, { signal }) => plugByKey(services, plan, signal),
    /** What the guest does not have is not asked for: it may hang. */
    async undo({ id, disk }, { signal }) {
      const guest = await hypervisor.observeGuest(id, { signal });
      const hasIt = guest?.live?.disks.some(({ serial }) => serial === disk.serial) ?? false;
      if (hasIt) await hypervisor.unplugDisk(id, disk.serial, { signal });
    },
  };
}

async function plugByKey(
  services: Services,
  { id, disk, volume }: DiskPlan,
  signal: AbortSignal,
): Promise<void> {
  const row = services.store.volumes.find(volume.id);
  if (row !== null) await handOverKeys(services, [row], signal);
  await services.hypervisor.plugDisk(id, disk, { signal });
}

function unplug(services: Services): Step<DetachPlan> {
  const { hypervisor } = services;
  return {
    name: 'unplug',
    /** A guest that runs may name a disk no more whose file is still open: whether it has gone is for the act to say. */
    async look({ id }, { signal }) {
      const guest = await hypervisor.observeGuest(id, { signal });
      return guest?.live == null ? {} : null;
    },
    act: ({ id, disk, timeoutMs }, { signal }) =>
      hypervisor.unplugDisk(id, disk.serial, { signal, timeoutMs }),
    undo: (plan, { signal }) => plugByKey(services, plan, signal),
  };
}

function assertPlace({ store }: Services, { id, name }: Instance): void {
  if (store.volumes.listOf(id).length < DISKS_MAX) return;
  throw new AgentError('LIMIT_REACHED', `Instance ${name} has ${DISKS_MAX} disks already`, {
    hint: 'Detach one first.',
  });
}

function assertDetachable({ store }: Services, volume: Volume, instance: Instance): void {
  const { id, name, deletedWithInstance } = volume;
  const refuse = (reason: string) =>
    new AgentError('ILLEGAL_STATE', `Cannot detach volume ${name} from instance ${instance.name}: ${reason}`);
  if (deletedWithInstance) throw refuse('it was made with the instance, and goes with it');
  if (store.volumes.positionOf(id) === 0) throw refuse('the instance boots from it');
  assertUnlayered(store, volume, 'detach');
}

function targetOf({ id, name }: Volume) {
  return { kind: 'volume', id, name } as const;
}

function tell(
  { store }: Services,
  type: 'volume.attached' | 'volume.detached',
  { id, volume }: DiskPlan,
): void {
  store.tellInstance('instance.changed', id);
  store.events.append(
    type,
    { kind: 'volume', ...volume },
    { instanceId: id, volume: store.volumes.get(volume.id) },
  );
}
