/** What a Qcow2Pool is made of: a store for each noun, on one layout. */
import { statfs } from 'node:fs/promises';
import { type Clock, systemClock } from '../contracts/clock.ts';
import type { ObjectStore } from '../contracts/objects.ts';
import type { PoolCapacity } from '../contracts/storage.ts';
import type { Keys } from '../contracts/keys.ts';
import type { Exec } from '../host/exec.ts';
import { FileKeys } from '../host/file-keys.ts';
import { type SandboxUser, sandboxUser } from '../host/sandbox.ts';
import { AddressGuard } from './address-guard.ts';
import { CloneStore } from './clones.ts';
import { ConsoleStore } from './consoles.ts';
import { CopyStore } from './copies.ts';
import { DeltaStore } from './deltas.ts';
import { ExportStore } from './exports.ts';
import { fileSystemOf } from './file-system.ts';
import { FlatStore } from './flatten.ts';
import { ImageTool } from './image-tool.ts';
import { ImageStore } from './images.ts';
import type { ImportParts } from './import.ts';
import { LayerStore } from './layers.ts';
import { Layout } from './layout.ts';
import { NodeFolders } from './node-folders.ts';
import { Passphrases } from '../host/passphrases.ts';
import type { PoolGround } from './pool-ground.ts';
import { SeedStore } from './seeds.ts';
import { ShareStore } from './shares.ts';
import { UploadStore } from './upload.ts';
import { ReadStore } from './volume-reads.ts';
import { VolumeStore } from './volumes.ts';
import { WipeStore } from './wipes.ts';

/** Largest image file: far beyond the images in use, far below what would fill a pool unnoticed. */
const IMAGE_BYTES_MAX = 256 * 1024 ** 3;
/** Largest disk that an image may show: ext4's largest file on common hosts. */
const VIRTUAL_BYTES_MAX = 16 * 1024 ** 4;
/** Longest silence of an image server. Milliseconds. */
const SOURCE_IDLE_MS = 30_000;

export interface Qcow2PoolParts {
  name: string;
  /** Absolute path of the pool's folder. */
  path: string;
  exec: Exec;
  /** What encrypted volumes are encrypted with. @default there are no keys */
  keys?: Keys;
  /** @default null: it is known by its path alone, and its folder made where it is missing */
  ground?: PoolGround | null;
  clock?: Clock;
  /** Folders that local image sources may lie in, as real paths. @default null, any */
  sourceFolders?: readonly string[] | null;
  /** Ranges of addresses that images may come from though they are refused by default. @default none */
  allowAddresses?: readonly string[];
  /** Keys whose signatures are trusted, as gpgv reads them; absolute path. @default null, signatures cannot be checked */
  keyring?: string | null;
  /** Object stores that images may come from, by their names. @default none */
  objects?: ReadonlyMap<string, ObjectStore>;
  /** Whom tools run as that read hostile bytes. @default sandboxUser() */
  sandbox?: SandboxUser | null;
  limits?: {
    /** Largest image file, bytes. @default 256 GiB */
    imageBytes?: number;
    /** Largest size that a guest may see of an image, bytes. @default 16 TiB */
    virtualBytes?: number;
    /** Longest silence of an image server, milliseconds. @default 30_000 */
    idleMs?: number;
  };
}

export type PoolStores = ReturnType<typeof makeStores>;

/** @throws {AgentError} INVALID_ARGUMENT: the path is not absolute and normal. */
export function makeStores(parts: Qcow2PoolParts) {
  const { path, exec, keys = new FileKeys(new Map()), sandbox = sandboxUser(), clock = systemClock } = parts;
  const layout = new Layout(path);
  const availableBytes = async () => (await measure(path)).availableBytes;
  const tool = new ImageTool({ exec, user: sandbox });
  const passphrases = new Passphrases(keys, sandbox);
  const images = new ImageStore({ layout, tool, availableBytes, ...importParts(parts) });
  const layers = new LayerStore({ layout, exec, passphrases });
  const volumes = new VolumeStore({ layout, exec, passphrases, images, layers });
  const volumeParts = { layout, tool, passphrases, images, volumes };
  const deltas = new DeltaStore(volumeParts);
  return {
    layout,
    images,
    layers,
    volumes,
    uploads: new UploadStore({ layout, availableBytes }),
    exports: new ExportStore(volumeParts),
    clones: new CloneStore(volumeParts),
    copies: new CopyStore({ ...volumeParts, exec }),
    shares: new ShareStore({ layout, exec }),
    flat: new FlatStore(volumeParts),
    wipes: new WipeStore({ layout, layers, tool, volumes, clock }),
    deltas,
    nodes: new NodeFolders({ layout, volumes, tool, passphrases }),
    reads: new ReadStore({ ...volumeParts, deltas }),
    seeds: new SeedStore({ layout, exec }),
    consoles: new ConsoleStore({ layout }),
  };
}

function importParts(parts: Qcow2PoolParts): Omit<ImportParts, 'layout' | 'tool' | 'availableBytes'> {
  const {
    path,
    clock = systemClock,
    sourceFolders = null,
    allowAddresses = [],
    keyring = null,
    objects = new Map(),
    limits = {},
  } = parts;
  return {
    clock,
    keyring,
    virtualBytes: limits.virtualBytes ?? VIRTUAL_BYTES_MAX,
    limits: {
      imageBytes: limits.imageBytes ?? IMAGE_BYTES_MAX,
      idleMs: limits.idleMs ?? SOURCE_IDLE_MS,
      folders: sourceFolders,
      poolPath: path,
      addresses: new AddressGuard(allowAddresses),
      stores: objects,
    },
  };
}

/** What an ordinary user could still write: room kept for root is not given to guests. */
export async function measure(path: string): Promise<Omit<PoolCapacity, 'ownBytes'>> {
  const { type, bsize, blocks, bavail } = await statfs(path);
  const { name: fileSystem, shared } = fileSystemOf(type);
  return { totalBytes: bsize * blocks, availableBytes: bsize * bavail, fileSystem, shared };
}
