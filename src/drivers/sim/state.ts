/**
 * What a simulated host is made of: plain data, so that a world can be written down at any moment and read back by a
 * process that knows nothing of the one before.
 */
import type { PowerState } from '../../model/instance.ts';
import type { ImageFormat, SourceFormat } from '../../model/storage.ts';
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
import type { WorldSettings } from './settings.ts';
import type { SimUsage } from './usage.ts';

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
