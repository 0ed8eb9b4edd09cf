/**
 * Simulated hosts as the contract suites want them.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { GuestDefinition, GuestDisk } from '../../../src/drivers/contracts/hypervisor.ts';
import type { ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import { newFile } from '../../../src/drivers/sim/files.ts';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import { extentsOf, lose, track, type Written } from '../../../src/drivers/sim/bitmaps.ts';
import {
  createSimHost,
  SimClock,
  type SimHost,
  SimWorld,
  type WorldOptions,
} from '../../../src/drivers/sim/index.ts';
import type { DefinitionBench } from '../contract/definitions.ts';
import type { FileBench } from '../contract/hypervisor-bench.ts';
import type { NetworkRig } from '../contract/network-rig.ts';
import type { ObjectsFixture } from '../contract/objects.ts';
import type { StorageFixture } from '../contract/storage-fixture.ts';
import type { SharingFixture } from '../contract/storage-sharing.ts';

const MIB = 1024 * 1024;
/** Time that passes between two looks at a condition, milliseconds of the world. */
const PASS_MS = 100;

/** A host on a stepped clock, with the clock at hand. */
export function steppedHost(options: WorldOptions = {}): SimHost & { clock: SimClock } {
  const clock = new SimClock();
  return { ...createSimHost({ clock, ...options }), clock };
}

/** A guest without disks and NICs, which starts on any host that has memory. */
export function guestDefinition(changes: Partial<GuestDefinition> = {}): GuestDefinition {
  const id = changes.id ?? randomUUID();
  return {
    id,
    name: `g-${id.slice(0, 8)}`,
    vcpus: 1,
    memoryMib: 128,
    firmware: 'bios',
    disks: [],
    nics: [],
    consoleLogPath: null,
    metadata: '{"generation":1}',
    ...changes,
  };
}

export async function makeHypervisorBench(_t: Test): Promise<DefinitionBench> {
  const { hypervisor, pool, world, clock } = steppedHost();
  return {
    hypervisor,
    reopen: async () => createSimHost({ world }).hypervisor,
    definition: () => guestDefinition(),
    spareDisk: () => spareDisk(pool),
    tracking: trackingOf(world, pool),
    ...filesOf(world, pool),
    exists: async (path) => world.files.has(path),
    sizeOf: async ({ path }) => world.files.get(path)?.volume?.sizeBytes ?? 0,
    makeForeign: async () => {
      const foreign = { id: randomUUID(), name: 'someone-elses' };
      world.outside.addForeign(foreign);
      return foreign;
    },
    outside: {
      pause: async (id) => world.outside.pause(id),
      stop: async (id) => world.outside.stop(id),
      undefine: async (id) => world.outside.undefine(id),
    },
    others: {
      rename: async (id, name) => world.outside.rename(id, name),
      setVcpus: async (id, vcpus) => world.outside.redefine(id, { vcpus }),
      changeOtherwise: async (id) => world.outside.redefine(id, { others: true }),
      attachDisk: async (id, to) => {
        world.outside.attachDisk(id, '/theirs.raw', to);
        return '/theirs.raw';
      },
      detachDisk: async (id, path) => world.outside.detachDisk(id, path, 'definition'),
      balloon: async (id) => world.outside.balloon(id),
      start: async (id) => world.outside.start(id),
    },
    hasBooted: async (id) => world.guests.get(id)?.booted === true,
    freeze: async (id) => {
      const release = world.faults.hang('hypervisor.*', { id });
      return async () => release();
    },
    panic: async (id) => world.outside.panic(id),
    fireWatchdog: async (id) => {
      const action = world.guests.get(id)?.definition?.watchdog ?? 'none';
      if (action !== 'none') world.outside.watchdog(id, action);
    },
    cutOff: async () => {
      const restore = world.faults.cutOff('hypervisor');
      return async () => restore();
    },
    oversized: () => guestDefinition({ memoryMib: world.settings.memoryMib + 1 }),
    clock,
    pass: () => clock.advance(PASS_MS),
    patienceMs: 60_000,
  };
}

function trackingOf(world: SimWorld, pool: StoragePool): DefinitionBench['tracking'] {
  return {
    disk: () => spareDisk(pool),
    use: async (id, { serial }) =>
      world.outside.useDisk(id, serial, { writeRequests: 1, writtenBytes: 65_536 }),
    scribble: async (_id, { path }) => {
      const written = world.files.written(path);
      if (written !== null) scribble(written);
    },
    bytesIn: async (path) => {
      const file = world.files.get(path);
      const extents = file === undefined ? [] : extentsOf(file);
      return extents.reduce((sum, each) => sum + (each.type === 'data' ? each.data.length : each.length), 0);
    },
    bitmapsIn: async (path) => Object.keys(world.files.get(path)?.volume?.bitmaps ?? {}),
    prepare: async (path) => {
      world.files.remove(path);
      world.files.put(newFile({ kind: 'volume', id: randomUUID(), path, sizeBytes: 0, text: '[]' }));
    },
    kill: async (id) => world.outside.crash(id),
  };
}

/** What the tests make disks and folders of. */
function filesOf(world: SimWorld, pool: StoragePool): FileBench {
  return {
    overlayOn: async (disk) => {
      const [id, layer] = [randomUUID(), randomUUID()];
      const path = pool.paths.layer(id, layer);
      const volume = { sizeBytes: MIB, imageId: null, below: disk.path };
      world.files.put(newFile({ kind: 'volume', id, path, sizeBytes: MIB, volume }));
      const { path: below, format, backing } = disk;
      return { ...disk, path, format: 'qcow2', backing: { path: below, format, backing } };
    },
    memoryPath: () => pool.paths.memory(randomUUID(), randomUUID()),
    nvramPath: () => pool.paths.nvram(randomUUID(), randomUUID()),
    variablesIn: async (path) => (world.kept.get(path) ?? world.files.get(path))?.text ?? '',
    changeVariables: async (path) => {
      const kept = world.kept.get(path);
      if (kept !== undefined) kept.text = randomUUID();
    },
    spareFolder: async () => {
      const id = randomUUID();
      const label = { name: id.slice(0, 8), createdAt: '', quotaGib: null, protected: false };
      await pool.makeShare({ id, label });
      return pool.paths.share(id);
    },
    layeredDisk: async () => {
      const [image, id] = [randomUUID(), randomUUID()];
      const source = `/images/${image}`;
      world.sources.set(source, { sha256: 'b'.repeat(64), sizeBytes: MIB, virtualSizeBytes: 8 * MIB });
      await pool.makeImage({ id: image, source, format: 'qcow2', sha256: null });
      await pool.makeVolume({ id, sizeBytes: 8 * MIB, image: { id: image, format: 'qcow2' } });
      const backing = { path: pool.paths.image(image, 'qcow2'), format: 'qcow2' } as const;
      const path = pool.paths.volume(id);
      return { serial: id.slice(0, 8), path, format: 'qcow2', readOnly: false, backing };
    },
    isFlat: async ({ path }) => world.files.get(path)?.volume?.imageId === null,
  };
}

function scribble({ file, content }: Written): void {
  if (file.volume !== null) file.volume.content = `${content}, and more`;
}

function changeVolume(
  world: SimWorld,
  pool: StoragePool,
  id: string,
  change: (written: Written) => void,
): void {
  const written = world.files.written(pool.paths.volume(id));
  if (written !== null) change(written);
}

async function spareDisk(pool: StoragePool): Promise<GuestDisk> {
  const id = randomUUID();
  await pool.makeVolume({ id, sizeBytes: MIB, image: null });
  const path = pool.paths.volume(id);
  return { serial: id.slice(0, 8), path, format: 'qcow2', readOnly: false, backing: null };
}

export async function makeStorageFixture(_t: Test): Promise<StorageFixture> {
  const { pool, world } = steppedHost();
  const facts = { sha256: 'ab'.repeat(32), sizeBytes: 3 * MIB + 17, virtualSizeBytes: 16 * MIB };
  world.sources.set('/images/valid.qcow2', facts);
  world.sources.set('/images/hostile.qcow2', { ...facts, refusal: 'it has a backing file' });
  return {
    pool,
    valid: { source: '/images/valid.qcow2', format: 'qcow2', ...facts },
    hostile: { source: '/images/hostile.qcow2', format: 'qcow2' },
    missingSource: '/images/missing.qcow2',
    tracking: {
      begin: async (id, name) => changeVolume(world, pool, id, (written) => track(written, name)),
      scribble: async (id) => changeVolume(world, pool, id, scribble),
      kill: async (id) => changeVolume(world, pool, id, ({ file }) => lose(file)),
    },
    writeConsole: async (id, text) => world.outside.writeConsole(id, text),
    writeInto: async (path) => world.outside.writeIntoShare(path, 1),
    replaceKey: async (name) => {
      const word = world.settings.keys[name] as string;
      world.settings.keys[name] = `not ${word}`;
      return async () => {
        world.settings.keys[name] = word;
      };
    },
    keepsQuotas: world.settings.projectQuotas,
  };
}

/** Hosts of their own, with the files of one pool in common. */
export async function makeSharingFixture(_t: Test): Promise<SharingFixture> {
  const pools = [{ name: 'common', root: '/sim/common', bytes: 1024 * MIB, shared: true }];
  const { pool: alone, world: common } = steppedHost();
  const first = new SimWorld({ clock: common.clock, pools });
  const poolOf = async (nodeId: string) => {
    const world = new SimWorld({ clock: common.clock, pools, common: first });
    const pool = createSimHost({ world }).pools.get('common') as StoragePool;
    pool.enterNode(nodeId);
    await pool.prepare();
    return pool;
  };
  const layerOf = (pool: StoragePool, id: string, layer: string) =>
    first.files.get(pool.paths.layer(id, layer));
  return {
    poolOf,
    alone,
    async plantLayer(pool, { volumeId: id, layer, below }) {
      const path = pool.paths.layer(id, layer);
      const volume = { sizeBytes: 4 * MIB, imageId: null, below };
      first.files.put(newFile({ kind: 'volume', id, path, sizeBytes: MIB, volume }));
    },
    belowOf: async (pool, id, layer) => layerOf(pool, id, layer)?.volume?.below ?? null,
  };
}

export async function makeObjectsFixture(_t: Test): Promise<ObjectsFixture> {
  const { objects, world } = steppedHost();
  const storeOf = (host: Pick<SimHost, 'objects'>) => host.objects.get('backups') as ObjectStore;
  return {
    store: storeOf({ objects }),
    reopen: async () => storeOf(createSimHost({ world })),
    receivedBytes: () => world.receivedObjectBytes,
  };
}

export async function makeNetworkRig(_t: Test): Promise<NetworkRig> {
  const { network: driver, world } = steppedHost();
  return {
    driver,
    reopen: () => createSimHost({ world }).network,
    addForeignBridge: async (name) => world.outside.addForeignBridge(name),
    hasBridge: async (name) => world.bridges.has(name) || world.traces.has(`bridge ${name}`),
    beginBridge: async ({ bridge }) =>
      world.outside.addTrace({ kind: 'bridge', name: bridge, networkId: null }),
    addTap: async (name) => world.outside.addTap(name),
    plugDevice: async (bridge, device) => {
      world.outside.plug(bridge, device);
      return async () => world.outside.unplug(device);
    },
    cutOff: async () => {
      const restore = world.faults.cutOff('network');
      return async () => restore();
    },
    damages: {
      address: async ({ bridge }) => world.outside.damageNetwork(bridge, 'address'),
      nat: async ({ bridge }) => world.outside.damageNetwork(bridge, 'nat'),
      dhcp: async ({ bridge }) => world.outside.damageNetwork(bridge, 'dhcp'),
    },
    leftovers: async () => [
      ...[...world.bridges.keys()].map((name) => `bridge ${name}`),
      ...[...world.devices.keys()].map((name) => `device ${name}`),
      ...[...world.traces.keys()],
    ],
  };
}
