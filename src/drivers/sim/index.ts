/**
 * A simulated host: all driver contracts in memory, on a clock of its own, with fault injection.
 *
 * ```ts
 * const { hypervisor, pool, network, host, world, kill } = createSimHost();
 * world.sources.set('/images/debian.qcow2', { sha256, sizeBytes, virtualSizeBytes });
 * await hypervisor.define(definition);
 * await hypervisor.start(definition.id);
 * await (world.clock as SimClock).advance(3_000); // it boots
 * kill();                                         // the agent's process is gone; its guests run on
 * const next = createSimHost({ world });          // the agent that is started next
 * ```
 *
 * For a process that is killed for real, keep the world in a file: `createSimHost({ statePath })`.
 */
import type { Attachment } from './call.ts';
import { SimHostFacts } from './host.ts';
import { SimHypervisor } from './hypervisor.ts';
import { SimKeys } from './keys.ts';
import { SimNetwork } from './network.ts';
import { SimObjectStore } from './objects.ts';
import { SimStoragePool } from './storage.ts';
import { SimWorld, type WorldOptions } from './world.ts';

export { SIM_EPOCH_MS, SimClock } from './clock.ts';
export type {
  CallListener,
  CallName,
  CallPattern,
  DriverName,
  FaultScope,
  Moment,
  SimCall,
} from './faults.ts';
export { Faults } from './faults.ts';
export { SimHostFacts } from './host.ts';
export { SimHypervisor } from './hypervisor.ts';
export { SimNetwork } from './network.ts';
export { SimObjectStore } from './objects.ts';
export type { SimTiming, WorldSettings } from './settings.ts';
export type { SimFile, SimGuest, SimSource } from './state.ts';
export { SimStoragePool } from './storage.ts';
export { SimWorld, type WorldOptions } from './world.ts';

export interface SimHost {
  hypervisor: SimHypervisor;
  pool: SimStoragePool;
  /** Those beside it, by name, as `world.settings.pools` says. */
  pools: ReadonlyMap<string, SimStoragePool>;
  network: SimNetwork;
  host: SimHostFacts;
  keys: SimKeys;
  /** By name, as `world.settings.objectStores` says. */
  objects: ReadonlyMap<string, SimObjectStore>;
  world: SimWorld;
  /**
   * Takes the process that holds these drivers for killed: from now on their calls act no more and never
   * settle, and no event comes. The world is as it is at this moment.
   */
  kill(): void;
}

/** Drivers on a new world, or on one that is there already. */
export function createSimHost(options: WorldOptions | { world: SimWorld } = {}): SimHost {
  const world = 'world' in options ? options.world : new SimWorld(options);
  const attachment: Attachment = { alive: true };
  return {
    hypervisor: new SimHypervisor(world, attachment),
    pool: new SimStoragePool(world, attachment),
    pools: new Map(
      world.settings.pools.map((place) => [place.name, new SimStoragePool(world, attachment, place)]),
    ),
    network: new SimNetwork(world, attachment),
    host: new SimHostFacts(world, attachment),
    keys: new SimKeys(world),
    objects: new Map(
      world.settings.objectStores.map((name) => [name, new SimObjectStore(name, world, attachment)]),
    ),
    world,
    kill: () => {
      attachment.alive = false;
    },
  };
}
