/**
 * The berthd of the laboratory: composed as src/agent/main.ts composes it, with the laboratory's hand on its
 * commits, its driver calls and its clock.
 *
 * It is started ahead of its time, and begins when it is told to. It dies with the laboratory.
 */
import { flushCompileCache } from 'node:module';
import { destination, pino, stdSerializers } from 'pino';
import { Agent } from '../../../src/agent/agent.ts';
import { loadConfig } from '../../../src/agent/config/load.ts';
import type { Config } from '../../../src/agent/config/schema.ts';
import { makeDrivers } from '../../../src/agent/drivers.ts';
import type { Log } from '../../../src/agent/log.ts';
import { type Clock, systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { Drivers } from '../../../src/drivers/contracts/drivers.ts';
import type { ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { Layout } from '../../../src/drivers/qcow2/layout.ts';
import { newFile } from '../../../src/drivers/sim/files.ts';
import { createSimHost, type SimWorld } from '../../../src/drivers/sim/index.ts';
import { EMPTY_VOLUME_BYTES } from '../../../src/drivers/sim/volumes.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { DEFAULT_POOL } from '../../../src/model/pool.ts';
import {
  type BackupsView,
  type DriversView,
  type Message,
  type Request,
  type Row,
  type Rows,
  type Start,
  TABLES,
  type WorldChange,
} from './protocol.ts';
import { LENT, lentLabel, type Lending, lentRecord } from '../stands/lent.ts';
import { ageFolder, backupsView } from './backups-view.ts';
import { Traps } from './traps.ts';

/** Name of the object store, as the configuration has it. */
const BACKUPS = 'backups';
/** Older than what the collector leaves alone, ms. */
const AGE_MS = 2 * 3_600_000;

// Kept at once: this process has no orderly end.
flushCompileCache();

let offsetMs = 0;
const clock: Clock = { ...systemClock, now: () => systemClock.now() + offsetMs };
const log: Log = pino(
  { level: 'debug', serializers: { error: stdSerializers.errWithCause } },
  destination({ fd: 1, sync: true }),
);
const traps = new Traps({
  setClock: (ms) => {
    offsetMs = ms;
  },
  changeWorld,
});
let settings: Config | null = null;
let agent: Agent | null = null;
let drivers: Drivers | null = null;
let world: SimWorld | null = null;
let unfill: () => void = () => undefined;
let mend: () => void = () => undefined;

async function start({ config: file, world: worldPath, trap, failing }: Start): Promise<null> {
  const config = loadConfig(file);
  settings = config;
  traps.arm({ trap, failing, holding: null });
  drivers = traps.watchDrivers(worldPath === null ? await realDrivers(file) : simDrivers(worldPath));
  agent = new Agent({ config, drivers, clock, log, commits: traps });
  await agent.start();
  log.info({}, 'ready');
  return null;
}

async function realDrivers(file: string): Promise<Drivers> {
  const newExec = () => traps.watchExec(new HostExec());
  return makeDrivers(loadConfig(file), { clock, exec: newExec(), newExec, log });
}

/** Its times are short, so that a case takes no longer than the process's own start. */
function simDrivers(statePath: string): Drivers {
  const timing = { bootMs: 20, shutdownMs: 20, haltMs: 10, callMs: 2, copyMs: 20 };
  const sim = createSimHost({ clock, statePath, timing });
  world = sim.world;
  return {
    hypervisor: sim.hypervisor,
    pool: sim.pool,
    pools: sim.pools,
    network: sim.network,
    host: sim.host,
    keys: sim.keys,
    objects: sim.objects,
  };
}

async function answer(request: Request): Promise<unknown> {
  switch (request.ask) {
    case 'start':
      return start(request.start);
    case 'arm':
      traps.arm(request);
      return null;
    case 'counts':
      return traps.counts;
    case 'holds':
      return traps.holds;
    case 'sprung':
      return traps.sprung;
    case 'deed':
      traps.do(request.deed);
      return null;
    case 'rows':
      return rows();
    case 'operation':
      return operation(request.key);
    case 'host':
      return driversView();
    case 'backups':
      return viewOfBackups();
    case 'age objects':
      return ageObjects();
  }
}

function rows(): Rows {
  const { db } = running().services.store;
  const entries = TABLES.map((table) => [table, db.sql(`SELECT * FROM ${table}`).all() as Row[]]);
  return Object.fromEntries(entries) as Rows;
}

function operation(key: string): unknown {
  const row = running().services.store.operations.findByKey(key);
  return row === null ? null : { id: row.id, state: row.state, error: row.error?.message ?? null };
}

async function driversView(): Promise<DriversView> {
  const { hypervisor, network, pools } = running().services;
  const guests = await hypervisor.observe();
  return {
    guests: guests.map(({ id, power }) => ({ id, power })),
    bridges: (await network.list()).map(({ bridge }) => bridge),
    files: (await Promise.all(pools.all.map(filesIn))).flat(),
  };
}

async function viewOfBackups(): Promise<BackupsView> {
  const { config, drivers: those } = started();
  const repository = await running().services.repositories.open(BACKUPS);
  const store = those.objects.get(BACKUPS) as ObjectStore;
  const file = config.objects[0]?.backupKeyFile as string;
  const key = await those.keys.readFile(file, 'the key of backups');
  return backupsView({ store, repository, key, path: folderOf(config) });
}

async function ageObjects(): Promise<null> {
  const path = folderOf(started().config);
  if (path !== null) await ageFolder(path);
  for (const object of world?.bucket(BACKUPS).objects.values() ?? []) object.modifiedAtMs -= AGE_MS;
  world?.touch();
  world?.flush();
  return null;
}

/** Null for a simulated one. */
function folderOf({ objects, hypervisor }: Config): string | null {
  const [store] = objects;
  return hypervisor.driver === 'libvirt' && store !== undefined && 'path' in store ? store.path : null;
}

function started(): { config: Config; drivers: Drivers } {
  if (settings === null || drivers === null) throw new Error('not started');
  return { config: settings, drivers };
}

/** Beside the default pool by its name, folder and name within it. */
async function filesIn(pool: StoragePool): Promise<string[]> {
  const place = pool.name === DEFAULT_POOL ? [] : [pool.name];
  return (await pool.list()).map(({ path }) => [...place, ...path.split('/').slice(-2)].join('/'));
}

function running(): Agent {
  if (agent === null) throw new Error('not started');
  return agent;
}

function changeWorld(change: WorldChange): void {
  if (world === null) throw new Error('no simulated host');
  switch (change.type) {
    case 'crash-guest':
      crashGuest(world, change.name);
      return;
    case 'leave-console':
      world.outside.writeConsole(change.id, 'left over\n');
      return;
    case 'lend-volumes':
      lendVolumes(world, change.lending);
      return;
    case 'fill-pool': {
      const full = new AgentError('CAPACITY_EXCEEDED', 'the pool is full');
      const calls = ['storage.makeImage', 'storage.makeVolume', 'storage.makeSeed'] as const;
      const lifts = calls.map((call) => (world as SimWorld).faults.fail(call, full));
      unfill = () => {
        for (const lift of lifts) lift();
      };
      return;
    }
    case 'empty-pool':
      unfill();
      return;
    case 'cut-hypervisor':
      mend = world.faults.cutOff('hypervisor');
      return;
    case 'mend-hypervisor':
      mend();
  }
}

/** Where the other node has them already they are as they were. */
function lendVolumes(sim: SimWorld, { snapshots = false, variables = false }: Lending): void {
  const pool = sim.settings.pools.find(({ shared = false }) => shared);
  const layout = new Layout(pool?.root as string).ofNode(LENT.node);
  for (const { path } of [...sim.files.all()]) if (path.startsWith(`${layout.root}/`)) sim.files.remove(path);
  for (const id of LENT.volumes) {
    const volume = { sizeBytes: 1024 ** 3, imageId: null, label: lentLabel(id) };
    const file = { kind: 'volume', id, path: layout.volume(id), sizeBytes: EMPTY_VOLUME_BYTES } as const;
    sim.files.put(newFile({ ...file, volume }));
  }
  if (snapshots) lendLayers(sim, layout);
  if (variables) lendVariables(sim, layout);
  sim.touch();
  sim.flush();
}

function lendLayers(sim: SimWorld, layout: Layout): void {
  const id = LENT.volumes[0] as string;
  const file = { kind: 'volume', id, sizeBytes: EMPTY_VOLUME_BYTES } as const;
  for (const [at, layer] of LENT.layers.entries()) {
    const below = layout.layer(id, LENT.layers[at - 1] ?? null);
    const volume = { sizeBytes: 1024 ** 3, imageId: null, below };
    sim.files.put(newFile({ ...file, path: layout.layer(id, layer), volume }));
  }
  const path = layout.snapshotRecord(id, LENT.instance);
  sim.files.put(newFile({ ...file, path, text: lentRecord('web') }));
}

function lendVariables(sim: SimWorld, layout: Layout): void {
  const id = LENT.volumes[0] as string;
  const path = layout.nvram(id, LENT.instance);
  sim.files.put(newFile({ kind: 'volume', id, path, sizeBytes: 540_672, text: 'boots the first disk' }));
}

/** One that does not run has no process to lose. */
function crashGuest(sim: SimWorld, name: string): void {
  const guest = sim.guests.byName(name);
  if (guest?.live) sim.outside.crash(guest.id);
}

function tell(serial: number, reply: { answer: unknown } | { error: string }): void {
  if (process.connected) process.send?.({ serial, ...reply });
}

process.on('message', ({ serial, request }: Message) => {
  answer(request).then(
    (value) => tell(serial, { answer: value }),
    (error: unknown) => tell(serial, { error: AgentError.from(error).message }),
  );
});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.once('SIGTERM', () => {
  log.info({}, 'stopping');
  running()
    .stop()
    .then(() => drivers?.hypervisor.close())
    .then(() => process.exit(0));
});
