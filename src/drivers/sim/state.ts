/**
 * What a simulated host is made of, and how it is kept in a file.
 *
 * All of it is plain data, so that a world can be written down at any moment and read back by a process that
 * knows nothing of the one before. The file replaces its predecessor by a rename: it is always whole.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { AgentError } from '../../model/errors.ts';
import type { PowerState } from '../../model/instance.ts';
import type { Acceleration, Finding } from '../../model/node.ts';
import type { ImageFormat, SourceFormat } from '../../model/storage.ts';
import type { HostDevice, HugepagePool } from '../../model/topology.ts';
import type {
  GuestDefinition,
  GuestDevices,
  KeptFile,
  ShapeDisk,
  ShapeNic,
} from '../contracts/hypervisor.ts';
import type { NetworkPlan, NetworkThingName, PortPlan } from '../contracts/network.ts';
import type { ExportFacts, ImageFacts, ShareLabel, StoredFile, VolumeLabel } from '../contracts/storage.ts';
import type { SimBitmap } from './bitmaps.ts';
import type { SimUsage } from './usage.ts';

/** Form of the file; another one is refused. */
const VERSION = 2;

/** How long things take, in milliseconds of the world's clock. 0 is at once, within the call itself. */
export interface SimTiming {
  /** From power-on or reset until the guest's system runs. @default 3_000 */
  bootMs: number;
  /** From the request until the guest's system has come down. @default 1_500 */
  shutdownMs: number;
  /** How long the guest is then seen `stopping` before it is stopped. @default 0 */
  haltMs: number;
  /** Each driver call. @default 0 */
  callMs: number;
  /** Each copy of an image into the pool. @default 0 */
  copyMs: number;
}

export interface SimPoolSettings {
  name: string;
  /** Folder of its files; of no two pools the same, or one within the other. */
  root: string;
  bytes: number;
  /** Whether several nodes have it, each with a folder of its own in it. @default false */
  shared?: boolean;
}

export interface WorldSettings {
  /** @default 'sim' */
  hostname: string;
  /** @default 16 */
  cpus: number;
  /** CPUs of them that are offline, as `0-3,8`. @default '' */
  offlineCpus: string;
  /** @default 65_536 */
  memoryMib: number;
  /** Memory in use, guests' and the host's own. @default 1_024 */
  usedMib: number;
  /** Of the CPUs' time, that which is used. @default 0 */
  busyShare: number;
  /** And that which the hardware below gives to others. @default 0 */
  stealShare: number;
  /** How many NUMA nodes CPUs and memory are spread over. @default 2 */
  numaNodes: number;
  /** Of each NUMA node. @default none */
  hugepages: HugepagePool[];
  /** @default none */
  devices: HostDevice[];
  /** @default 'default' */
  poolName: string;
  /** @default '/sim/pool' */
  poolRoot: string;
  /** @default 1 TiB */
  poolBytes: number;
  /** Pools beside that one. @default none */
  pools: SimPoolSettings[];
  /** @default 'kvm' */
  acceleration: Acceleration;
  /** @default ['HW_CPU_X86_AVX2'] */
  traits: string[];
  /** The software that keeps definitions, with its version. @default 'sim 1' */
  writer: string;
  /** Whether the pool's file system keeps what folders take to a limit. @default true */
  projectQuotas: boolean;
  /** Why guests can't be given shares; null where they can. @default null */
  sharesMissing: string | null;
  /** Network features that are not usable, with the reason. @default none */
  missingFeatures: Partial<Record<'bridge' | 'nat' | 'dhcp', string>>;
  /** Keys that volumes can be encrypted with: a word for each name. @default `disks` and `other` */
  keys: Record<string, string>;
  /** Names of the object stores. @default ['backups'] */
  objectStores: string[];
  /** What `Host.examine` finds. @default one finding, that all is well */
  findings: Finding[];
  /** Another one after each boot of the host. @default 'boot-1' */
  bootId: string;
  /** The host itself is going down. @default false */
  stopping: boolean;
  timing: SimTiming;
}

export const DEFAULT_SETTINGS: WorldSettings = {
  hostname: 'sim',
  cpus: 16,
  offlineCpus: '',
  memoryMib: 65_536,
  usedMib: 1_024,
  busyShare: 0,
  stealShare: 0,
  numaNodes: 2,
  hugepages: [],
  devices: [],
  poolName: 'default',
  poolRoot: '/sim/pool',
  poolBytes: 1024 ** 4,
  pools: [],
  acceleration: 'kvm',
  traits: ['HW_CPU_X86_AVX2'],
  writer: 'sim 1',
  projectQuotas: true,
  sharesMissing: null,
  missingFeatures: {},
  keys: { disks: 'sesame', other: 'open' },
  objectStores: ['backups'],
  findings: [{ check: 'simulation', verdict: 'ok', message: 'this host is simulated', mend: null }],
  bootId: 'boot-1',
  stopping: false,
  timing: { bootMs: 3_000, shutdownMs: 1_500, haltMs: 0, callMs: 0, copyMs: 0 },
};

/** The host always knows a guest's power. */
export type SimPower = Exclude<PowerState, 'unknown'>;

/** What a guest will do by itself, and when. */
export interface Pending {
  what: 'boot' | 'shutdown' | 'reboot' | 'halt';
  /** Milliseconds since the epoch, by the world's clock. */
  atMs: number;
}

/** What others have changed in a definition since it was defined. */
export interface SimEdits {
  disks: ShapeDisk[];
  nics: ShapeNic[];
  /** Serials of disks and MAC addresses of NICs that were taken out. */
  removed: string[];
  /** Changes of what no definition of ours says anything about. */
  others: number;
}

export interface SimProcess extends GuestDevices {
  vcpus: number;
  memoryMib: number;
  /** Files that it holds open, those below its disks included. */
  paths: string[];
  taps: string[];
  /** @default none: a foreign guest's, or one that was started by an older version */
  generationId?: string;
  /** Its memory can be shared with daemons of the host; what it was started with decides. @default false */
  sharesMemory?: boolean;
  /** What it has used. @default nothing that can be told: a world of an older version */
  usage?: SimUsage;
}

export interface SimGuest {
  id: string;
  name: string;
  /** What `define` was given; null for a guest that Berth did not define. */
  definition: GuestDefinition | null;
  /** Sizes of the definition; those that run are in `live`. */
  vcpus: number;
  memoryMib: number;
  /** Whether the host keeps its definition; a guest that runs without one goes with its stop. */
  persistent: boolean;
  /** What others have made of its definition. */
  edits: SimEdits;
  power: SimPower;
  reason: string;
  /** There where it is stopped because its own system came down. */
  stoppedBy?: 'guest';
  /** What the running process was started with; null while there is none. */
  live: SimProcess | null;
  /** Its system has come up since power-on or the last reset. */
  booted: boolean;
  /** Times that its system has come up, ever. */
  boots: number;
  /** Times that its process was started, ever. @default 0 */
  starts?: number;
  pending: Pending | null;
  /** Listens to requests to shut down and to reboot. */
  obeys: boolean;
  /** Its guest agent connects when it boots, and answers. */
  agentAnswers: boolean;
  /** Its agent has frozen its file systems. @default false */
  frozen?: boolean;
  /** Checkpoints, oldest first, with the disks that they are of. @default none */
  checkpoints?: { name: string; serials: string[] }[];
  /** Files that the definition of a foreign guest names. */
  foreignFiles: string[];
}

export interface SimImage {
  format: ImageFormat;
  facts: ImageFacts;
  /** @default as `format` */
  sourceFormat?: SourceFormat;
  name?: string | null;
  madeAt?: string;
}

export interface SimFile extends StoredFile {
  /** Bytes that it takes in the pool. */
  sizeBytes: number;
  /** An image whose copying has not ended. */
  partial: boolean;
  image: SimImage | null;
  volume: {
    sizeBytes: number;
    imageId: string | null;
    format?: ImageFormat;
    label?: VolumeLabel | null;
    /** What opens it. @default it is not encrypted */
    passphrase?: string;
    /** Path of what it stands on, where that is not its image. */
    below?: string;
    /** What is on it, as text. @default words that are its own; of a layer, what is below */
    content?: string;
    /** By name. @default none */
    bitmaps?: Record<string, SimBitmap>;
  } | null;
  /** @default none */
  share?: { label: ShareLabel | null; files: number } | null;
  /** What opens a copy of a volume. @default it is in clear */
  copyPassphrase?: string;
  /** A seed's contents as JSON, a console's text, or the bytes of an upload in base64. */
  text: string | null;
  /** Files of one inode share their room. @default a file of its own */
  inode?: string;
  /** An image that was changed from outside. @default false */
  changed?: boolean;
}

export interface SimKept extends KeptFile {
  /** What a guest's firmware has in it. @default nothing that is known */
  text?: string;
}

export interface SimBridge {
  name: string;
  /** What it was made from: our mark. Null for a bridge that is not ours. */
  plan: NetworkPlan | null;
  /** Whether the plan can no longer be read from the host, as with a bridge of an older version. */
  planLost?: boolean;
  /** Parts of the plan that somebody took away. */
  damaged: ('address' | 'nat' | 'dhcp')[];
  ports: Record<string, PortPlan>;
}

/** A part of a network that is there without the rest. */
export interface SimTrace extends NetworkThingName {
  networkId: string | null;
  marked: boolean;
}

/** An image outside of the pool, at a path or a URL; kept as it is, but for its format. */
export interface SimSource extends Omit<ImageFacts, 'fileSha256' | 'hardware'> {
  /** @default none */
  hardware?: ImageFacts['hardware'];
  /** Why an image like this must be refused. @default it is a good one */
  refusal?: string;
}

/** What one object store holds. */
export interface SimBucket {
  objects: Map<string, { content: Uint8Array; modifiedAtMs: number }>;
  /** By upload id. */
  uploads: Map<string, SimUpload>;
}

export interface SimUpload {
  key: string;
  startedAtMs: number;
  parts: Uint8Array[];
}

export interface WorldState {
  settings: WorldSettings;
  guests: Map<string, SimGuest>;
  files: Map<string, SimFile>;
  bridges: Map<string, SimBridge>;
  /** Device to the bridge that it is plugged into; an empty name for none. */
  devices: Map<string, string>;
  /** By kind and name. */
  traces: Map<string, SimTrace>;
  /** By path. */
  kept: Map<string, SimKept>;
  /** Numbers up to which the fences of nodes have ended, by their folders in shared pools. */
  fences: Map<string, number>;
  sources: Map<string, SimSource>;
  /** By the store's name. */
  buckets: Map<string, SimBucket>;
  /** Volumes that were given away, by path; whose it is while its export is not finished. */
  exports: Map<string, { facts: ExportFacts; volumeId: string | null }>;
  /** Passphrases that the hypervisor has in its memory, by the volume's id. */
  secrets: Map<string, string>;
}

export function emptyState(settings: WorldSettings): WorldState {
  return {
    settings,
    guests: new Map(),
    files: new Map(),
    bridges: new Map(),
    devices: new Map(),
    traces: new Map(),
    kept: new Map(),
    fences: new Map(),
    sources: new Map(),
    buckets: new Map(),
    exports: new Map(),
    secrets: new Map(),
  };
}

/** Key of a trace in its map. */
export function traceKey({ kind, name }: NetworkThingName): string {
  return `${kind} ${name}`;
}

/** Writes the state; the file is the old one or the new one, never a part. */
export function writeState(path: string, state: WorldState, nowMs: number): void {
  const { settings, guests, files, bridges, devices, traces, kept, sources, buckets, exports, secrets } =
    state;
  const { fences } = state;
  const body = {
    version: VERSION,
    nowMs,
    settings,
    guests: [...guests],
    files: [...files],
    bridges: [...bridges],
    devices: [...devices],
    traces: [...traces],
    kept: [...kept],
    fences: [...fences],
    sources: [...sources],
    buckets: [...buckets].map(([name, bucket]) => [name, writtenBucket(bucket)]),
    exports: [...exports],
    secrets: [...secrets],
  };
  writeFileSync(`${path}.new`, JSON.stringify(body));
  renameSync(`${path}.new`, path);
}

/**
 * Reads what `writeState` wrote; null where there is no such file.
 *
 * @throws {AgentError} INVALID_ARGUMENT: not a world, or one in another form.
 */
export function readState(path: string): { state: WorldState; nowMs: number } | null {
  const text = readIfThere(path);
  if (text === null) return null;
  try {
    const body = JSON.parse(text);
    if (body.version !== VERSION) throw new Error(`its version is ${body.version}, not ${VERSION}`);
    const state: WorldState = {
      settings: body.settings,
      guests: new Map(body.guests),
      files: new Map(body.files),
      bridges: new Map(body.bridges),
      devices: new Map(body.devices),
      traces: new Map(body.traces),
      kept: new Map(body.kept),
      fences: new Map(body.fences ?? []),
      sources: new Map(body.sources),
      buckets: new Map(
        body.buckets.map(([name, bucket]: [string, WrittenBucket]) => [name, readBucket(bucket)]),
      ),
      exports: new Map(body.exports),
      // Worlds of before have none.
      secrets: new Map(body.secrets ?? []),
    };
    return { state, nowMs: body.nowMs };
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', `${path} does not hold a simulated host`, { cause });
  }
}

/** Bytes as base64. */
interface WrittenBucket {
  objects: [string, { content: string; modifiedAtMs: number }][];
  uploads: [string, { key: string; startedAtMs: number; parts: string[] }][];
}

function writtenBucket({ objects, uploads }: SimBucket): WrittenBucket {
  return {
    objects: [...objects].map(([key, { content, modifiedAtMs }]) => [
      key,
      { content: Buffer.from(content).toString('base64'), modifiedAtMs },
    ]),
    uploads: [...uploads].map(([id, upload]) => [
      id,
      { ...upload, parts: upload.parts.map((part) => Buffer.from(part).toString('base64')) },
    ]),
  };
}

function readBucket({ objects, uploads }: WrittenBucket): SimBucket {
  return {
    objects: new Map(
      objects.map(([key, { content, modifiedAtMs }]) => [
        key,
        { content: Buffer.from(content, 'base64'), modifiedAtMs },
      ]),
    ),
    uploads: new Map(
      uploads.map(([id, upload]) => [
        id,
        { ...upload, parts: upload.parts.map((part) => Buffer.from(part, 'base64')) },
      ]),
    ),
  };
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
