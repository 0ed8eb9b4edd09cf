/**
 * Names the drivers that the configuration asks for; part of the composition root.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BridgeDriver } from '../drivers/bridge/bridge-driver.ts';
import type { Clock } from '../drivers/contracts/clock.ts';
import type { Drivers } from '../drivers/contracts/drivers.ts';
import type { Keys } from '../drivers/contracts/keys.ts';
import type { ObjectStore } from '../drivers/contracts/objects.ts';
import { type Exec, HostExec } from '../drivers/host/exec.ts';
import { FileKeys } from '../drivers/host/file-keys.ts';
import { LinuxHost } from '../drivers/host/linux-host.ts';
import { createLibvirtHypervisor } from '../drivers/libvirt/index.ts';
import { NfsMount } from '../drivers/qcow2/nfs-mount.ts';
import type { PoolGround } from '../drivers/qcow2/pool-ground.ts';
import { type KnownMarks, PoolMark } from '../drivers/qcow2/pool-mark.ts';
import { Qcow2Pool } from '../drivers/qcow2/pool.ts';
import { type BucketSection, type FolderSection, isBucket, isFolder } from './config/object-stores.ts';
import { DEFAULT_POOL } from '../model/pool.ts';
import { type PoolSettings, poolSettings } from './config/pools.ts';
import type { Config } from './config/schema.ts';
import type { Log } from './log.ts';

/** QEMU's user on Debian and Ubuntu, who has to pass through the pool's folders. */
const QEMU_USER = 'libvirt-qemu';
const MACHINE_ID_FILE = '/etc/machine-id';
/** As the store makes it. */
const STATE_DIR_MODE = 0o711;

/** The folder that an installation's programs lie in. */
const INSTALLED = '/usr/lib/berth/';

/**
 * The program that serves read-only shares: a checkout's own. An installation has it among the system's programs, since
 * libvirt's AppArmor profile lets libvirtd start no others.
 */
function readOnlyProgram(): { readOnlyProgram?: string } {
  const own = resolve(import.meta.dirname, '../../bin/berth-virtiofsd-readonly');
  return own.startsWith(INSTALLED) ? {} : { readOnlyProgram: own };
}

/** What a simulated host has in each pool beside the default one. */
const SIM_POOL_BYTES = 1024 ** 4;

/** The one image that a simulated host can import. */
const SIM_IMAGE = {
  path: '/sim/image.qcow2',
  facts: { sha256: '0'.repeat(64), sizeBytes: 64 * 1024 * 1024, virtualSizeBytes: 1024 ** 3 },
};

interface DriverParts {
  clock: Clock;
  exec: Exec;
  /** Makes one that shares no places with others. @default a HostExec */
  newExec?: () => Exec;
  log: Log;
}

export async function makeDrivers(config: Config, parts: DriverParts): Promise<Drivers> {
  switch (config.hypervisor.driver) {
    case 'libvirt':
      return realDrivers(config, parts);
    case 'sim':
      return simDrivers(config, parts.clock);
  }
}

async function realDrivers(
  config: Config,
  { clock, exec, newExec = () => new HostExec(), log }: DriverParts,
): Promise<Drivers> {
  const keys = new FileKeys(new Map(config.keys.map(({ name, file }) => [name, file])));
  const objects = await objectStores(config, clock);
  return {
    hypervisor: createLibvirtHypervisor({
      uri: config.hypervisor.uri,
      ...readOnlyProgram(),
      keys,
      clock,
      exec,
      log: ({ level, message, error }) =>
        level === 'warning' ? log.warn({ error }, message) : log.info({ error }, message),
    }),
    pool: new Qcow2Pool({
      name: DEFAULT_POOL,
      path: config.storage.path,
      keys,
      exec,
      clock,
      allowAddresses: config.images.allowAddresses,
      keyring: config.images.keyring ?? null,
      objects,
    }),
    pools: otherPools(config, { clock, newExec, keys }),
    network: new BridgeDriver({ exec, clock, stateDir: join(config.node.runDir, 'networks') }),
    host: new LinuxHost({ exec, clock, poolPath: config.storage.path, qemuUser: QEMU_USER }),
    objects,
    keys,
  };
}

/** Each has an exec of its own: children that hang on one disk take no place of others. */
function otherPools(
  config: Config,
  { clock, newExec, keys }: { clock: Clock; newExec: () => Exec; keys: Keys },
): Drivers['pools'] {
  const [, ...others] = poolSettings(config);
  const known: KnownMarks = new Map();
  return new Map(
    others.map((settings) => {
      const { name, path } = settings;
      const exec = newExec();
      const ground = groundOf(settings, { exec, known, stateDir: config.node.stateDir });
      return [name, new Qcow2Pool({ name, path, keys, exec, clock, ground })];
    }),
  );
}

/** Where a pool's mark is remembered, nothing of the pool can be lost with it. */
function groundOf(
  { name, path, nfs, shared: isShared }: PoolSettings,
  { exec, known, stateDir }: { exec: Exec; known: KnownMarks; stateDir: string },
): PoolGround {
  const memoryPath = join(stateDir, 'pools', `${name}.json`);
  return {
    mark: new PoolMark({ name, root: path, memoryPath, machine: machineId(), known, isShared }),
    isShared,
    mount: nfs === null ? null : new NfsMount({ path, ...nfs, exec }),
  };
}

/** Null where the host has none. @see machine-id(5) */
function machineId(): string | null {
  try {
    return readFileSync(MACHINE_ID_FILE, 'utf8').trim() || null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Each kind of store is loaded where there is one: the S3 client takes some 8 MB of memory. */
async function objectStores({ objects }: Config, clock: Clock): Promise<Drivers['objects']> {
  const stores = [
    ...(await buckets(objects.filter(isBucket), clock)),
    ...(await folders(objects.filter(isFolder), clock)),
  ];
  return new Map(stores.map((store) => [store.name, store]));
}

async function buckets(sections: readonly BucketSection[], clock: Clock): Promise<ObjectStore[]> {
  if (sections.length === 0) return [];
  const { S3Store } = await import('../drivers/s3/store.ts');
  return sections.map((settings) => new S3Store({ settings, clock, random: Math.random }));
}

async function folders(sections: readonly FolderSection[], clock: Clock): Promise<ObjectStore[]> {
  if (sections.length === 0) return [];
  const { FolderStore } = await import('../drivers/folder/store.ts');
  return sections.map(({ name, path, prefix }) => new FolderStore({ name, path, prefix, clock }));
}

/** Loaded only where it is asked for: a node that runs guests has no use for it. */
async function simDrivers(config: Config, clock: Clock): Promise<Drivers> {
  const { createSimHost } = await import('../drivers/sim/index.ts');
  // The store makes it, too, but later.
  mkdirSync(config.node.stateDir, { recursive: true, mode: STATE_DIR_MODE });
  const { hypervisor, pool, pools, network, host, keys, objects, world } = createSimHost({
    clock,
    statePath: join(config.node.stateDir, 'sim.json'),
    objectStores: config.objects.map(({ name }) => name),
    keys: Object.fromEntries(config.keys.map(({ name, file }) => [name, file])),
    pools: config.pools.map(({ name, path, shared }) => ({
      name,
      root: path,
      bytes: SIM_POOL_BYTES,
      shared,
    })),
  });
  world.sources.set(SIM_IMAGE.path, SIM_IMAGE.facts);
  return { hypervisor, pool, pools, network, host, keys, objects };
}
