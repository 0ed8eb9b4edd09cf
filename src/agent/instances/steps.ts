/**
 * The steps that instance operations are made of. Each knows only its plan and the drivers.
 */
import type { GuestDefinition } from '../../drivers/contracts/hypervisor.ts';
import { AgentError } from '../../model/errors.ts';
import type { PowerState } from '../../model/instance.ts';
import { assertBasesIntact } from '../images/check.ts';
import type { Step } from '../operations/kind.ts';
import { assertHeld } from '../pools/held.ts';
import { isMade, makeVolume, noteWhole } from '../pools/images.ts';
import type { Services } from '../services.ts';
import { recordSnapshots } from '../snapshots/record.ts';
import type { BaselineRow } from '../store/instances.ts';
import { handOverKeys, secretsOf } from '../volumes/encryption.ts';
import { diskOf, type InstancePlan, planInstance, SEED_SERIAL, serialOf } from './plan.ts';
import { type SeededPlan, withoutSeedSecrets } from './seed.ts';

export interface Redefinition {
  definition: GuestDefinition;
  previousDefinition: GuestDefinition;
}

export function makeVolumes(services: Services): Step<InstancePlan> {
  const { pools, hypervisor } = services;
  return {
    name: 'make-volumes',
    async look({ ownVolumes }, { signal }) {
      const looks = ownVolumes.map((volume) => isMade(services, volume, { signal }));
      return (await Promise.all(looks)).includes(false) ? null : {};
    },
    act: async ({ ownVolumes }, { signal }) =>
      void (await Promise.all(ownVolumes.map((volume) => makeVolume(services, volume, { signal })))),
    record: ({ ownVolumes }) => noteWhole(services, ownVolumes),
    async undo({ ownVolumes }, { signal }) {
      await Promise.all(ownVolumes.map((volume) => pools.of(volume).removeVolume(volume.id, { signal })));
      for (const { name } of secretsOf(ownVolumes)) await hypervisor.forgetKey(name, { signal });
    },
  };
}

export function makeSeed({ pool }: Services): Step<SeededPlan> {
  return {
    name: 'make-seed',
    look: async () => null, // made again it is done at once, and what a crash left of its making goes
    act: ({ seed }, { signal }) => pool.makeSeed(seed, { signal }),
    undo: ({ id }, { signal }) => pool.removeSeed(id, { signal }),
    forget: withoutSeedSecrets,
  };
}

/** Sees that the networks are whole, and reserves the ports' addresses on them. */
export function bindPorts({ network: driver }: Services): Step<InstancePlan> {
  return {
    name: 'bind-ports',
    look: async () => null, // idempotent, and what was whole before a crash may not be now
    async act({ ports }, { signal }) {
      for (const { network, port } of ports) {
        if ((await driver.look(network, { signal })) !== 'present')
          await driver.ensureNetwork(network, { signal });
        await driver.ensurePort(network, port, { signal });
      }
    },
    async undo({ ports }, { signal }) {
      for (const { network, port } of ports) await driver.removePort(network, port, { signal });
    },
  };
}

export function define(services: Services): Step<InstancePlan> {
  return {
    name: 'define',
    look: async () => null, // idempotent, and brings an older definition up to date
    act: ({ definition }, { signal }) => defineForBaseline(services, asOfNow(services, definition), signal),
    record: ({ id }, baseline) => services.store.instances.setBaseline(id, baseline as BaselineRow),
    undo: ({ id }, { signal }) => unlessForeign(services.hypervisor.undefine(id, { signal })),
  };
}

/** What the host keeps of it is remembered, so that what others make of it later is seen as theirs. */
export async function defineGuest(
  services: Services,
  definition: GuestDefinition,
  signal: AbortSignal,
): Promise<void> {
  await defineAsIs(services, asOfNow(services, definition), signal);
}

async function defineAsIs(
  services: Services,
  definition: GuestDefinition,
  signal: AbortSignal,
): Promise<void> {
  const baseline = await defineForBaseline(services, definition, signal);
  const { store } = services;
  store.db.transaction(() => store.instances.setBaseline(definition.id, baseline));
}

async function defineForBaseline(
  services: Services,
  definition: GuestDefinition,
  signal: AbortSignal,
): Promise<BaselineRow> {
  const { hypervisor } = services;
  // Another node that takes it over has to know by then what this definition's disks are.
  await recordSnapshots(services, definition.id, { signal });
  const { digest, writer } = await hypervisor.define(definition, { signal });
  return { digest, writer };
}

/**
 * While a plan has waited for its turn, layers of its volumes may have been merged, and volumes detached: its disks are
 * those that the instance has now, with the files of now. A guest that is started on a file of before would lose what it
 * writes. It may have been taken back to a snapshot meanwhile, too, which its generation ID has to tell.
 */
function asOfNow({ store, pools }: Services, definition: GuestDefinition): GuestDefinition {
  const volumes = store.volumes.listOf(definition.id);
  const present = new Map(volumes.map((volume) => [serialOf(volume.id), diskOf(store, pools, volume)]));
  const disks = definition.disks.flatMap((disk) => {
    if (disk.serial === SEED_SERIAL) return [disk];
    const now = present.get(disk.serial);
    return now === undefined ? [] : [{ ...disk, path: now.path, backing: now.backing }];
  });
  return { ...definition, generationId: store.instances.generationIdOf(definition.id), disks };
}

/** The definition that the store says. */
export function defineFromStore(services: Services, id: string, signal: AbortSignal): Promise<void> {
  const { store, pools } = services;
  return defineAsIs(services, planInstance(store, pools, store.instances.get(id)).definition, signal);
}

/** From one definition to another, and back where it is undone. */
export function redefine(services: Services): Step<Redefinition> {
  return {
    name: 'define',
    look: async () => null, // idempotent
    act: ({ definition }, { signal }) => defineGuest(services, definition, signal),
    undo: ({ previousDefinition }, { signal }) => defineGuest(services, previousDefinition, signal),
  };
}

/** Ends a guest that has run, after a last reading of what it has used. */
export async function endGuest(
  { hypervisor, metering }: Services,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await metering.settle();
  await hypervisor.destroy(id, { signal });
}

/** What has our id and is not ours was there before us: there is nothing of ours to take back. */
async function unlessForeign(undo: Promise<void>): Promise<void> {
  try {
    await undo;
  } catch (error) {
    if (AgentError.from(error).code !== 'HOST_CONFLICT') throw error;
  }
}

export function start(services: Services): Step<InstancePlan> {
  const { hypervisor, pool } = services;
  return {
    name: 'start',
    look: async ({ id }, { signal }) =>
      (await hypervisor.observeGuest(id, { signal }))?.power === 'running' ? {} : null,
    async act({ id }, { signal }) {
      await assertHeld(services, id, { signal });
      await assertBasesIntact(services, id, { signal });
      await handOverKeys(services, services.store.volumes.listOf(id), signal);
      await hypervisor.start(id, { signal });
    },
    async undo({ id }, { signal }) {
      await hypervisor.destroy(id, { signal });
      // Whoever runs the guest has made it, with the guest's first word or before.
      await pool.removeConsole(id, { signal });
    },
  };
}

/** The same, for a guest that existed before: a failed start leaves it as it is. */
export function startExisting(services: Services): Step<InstancePlan> {
  const { undo: _undo, ...step } = start(services);
  return step;
}

/** Looks at the guest once more, so that the store is true when the operation ends. */
export function confirm({ observer }: Services, expected: readonly PowerState[]): Step<{ id: string }> {
  return {
    name: 'confirm',
    look: async () => null,
    async act({ id }, { signal }) {
      const guest = await observer.refresh(id, { signal });
      if (guest !== null && expected.includes(guest.power)) return;
      throw new AgentError(
        'ILLEGAL_STATE',
        `The guest is ${guest?.power ?? 'not defined'}, not ${expected.join(' or ')}: ${guest?.reason ?? 'gone'}`,
        {
          hint: 'Read its console: berth instance console.',
        },
      );
    },
  };
}

/** So that the store is true of the guest's power when the operation ends, whatever it is. */
export function look({ observer }: Services): Step<{ id: string }> {
  return {
    name: 'look',
    look: async () => null,
    act: async ({ id }, { signal }) => void (await observer.refresh(id, { signal })),
  };
}
