/**
 * The files that a volume has beside its own one, when it passes to another node: layers, firmware variables, and the
 * record of snapshots.
 *
 * Another node has written them, and may have written anything: they are judged by their headers before a name is
 * changed, and once more under the names that they pass by, which nobody else can put another file under. A layer stands
 * on a file of the same volume in the same folder, and on nothing else; each is one file by one name; the tree is one,
 * bounded, and without a loop. What passes is linked: until the volume's own file is renamed the old node has them whole,
 * and from then on the new one has.
 *
 * The memory of a snapshot stays: the devices and paths of its guest are written in it, and are that node's.
 */
import { link, lstat, readdir, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NVRAM_BYTES_LIMIT } from '../../model/backup.ts';
import { AgentError } from '../../model/errors.ts';
import { LAYERS_MAX, type LayerId } from '../../model/layers.ts';
import { errno, ifThere, lstatIfThere, syncFolder } from './files.ts';
import type { Qcow2Header } from './header.ts';
import { isBeside, isPassing, type Layout, NODES_FOLDER } from './layout.ts';
import { readHeader } from './volumes.ts';

/** Layers of one volume: each snapshot keeps one at most, and a revert leaves one until it is merged. */
export const PASSING_LAYERS_MAX = 128;
/** A revert puts one more on what a snapshot keeps. */
const DEPTH_MAX = LAYERS_MAX + 1;
/** Of a record of snapshots, bytes: 64 of them with 16 disks each. */
export const RECORD_BYTES_MAX = 256 * 1024;

/** Looks at the names of a file, and what is waited between two, ms: a taker links all within a few. */
const LOOKS = 6;
const LOOK_PAUSE_MS = 50;

export interface PassingLayer {
  id: string;
  path: string;
  parent: LayerId;
  /** Whether its header names what it stands on by a path of one node's folder. */
  isAbsolute: boolean;
}

export interface PassingFiles {
  layers: PassingLayer[];
  /** Of all that passes beside the volume's own file, within the folder. */
  names: string[];
}

export interface Passing {
  volumeId: string;
  /** Whose folder the volume's own file is in. */
  own: Layout;
  /** Whose folder the others are looked at in. */
  beside: Layout;
}

/**
 * Judges all files of a volume, and changes none.
 *
 * @throws {AgentError} UNSUPPORTED: it stands on an image of its node, or its label is lost. HOST_CONFLICT: what its files
 *   say is not what a node of ours would have written.
 */
export async function judgePassing(passing: Passing): Promise<PassingFiles> {
  const { volumeId, own, beside } = passing;
  for (const folder of [own.root, own.folder('volumes'), beside.folder('volumes')])
    if (!(await lstat(folder)).isDirectory()) throw wrong(volumeId, `${folder} is no folder`);
  await assertOneName(volumeId, own.volume(volumeId), []);
  const header = await readHeader(own.volume(volumeId));
  if (header === null) throw wrong(volumeId, 'its own file is no file');
  if (header.backingFile !== null) throw notWhole(volumeId, 'it stands on an image of its node');
  if ((await lstatIfThere(own.volumeLabel(volumeId)))?.isFile() !== true)
    throw notWhole(volumeId, 'its label is lost');
  const names = (await namesBeside(beside, volumeId)).filter(isPassing);
  const layers: PassingLayer[] = [];
  const nodes = await readdir(join(own.base, NODES_FOLDER));
  for (const name of names) {
    const path = pathIn(beside, name);
    const places = nodes.map((node) => join(own.base, NODES_FOLDER, node, 'volumes', name));
    await assertOneName(volumeId, path, places);
    if (path.endsWith('.qcow2')) layers.push(await judgeLayer(passing, path, header));
    else await assertSmall(volumeId, path);
  }
  assertTree(volumeId, layers);
  return { layers, names };
}

/** Names of a folder that are a volume's and bear two ids, what was being written among them. */
export async function namesBeside(layout: Layout, volumeId: string): Promise<string[]> {
  const names = (await ifThere(readdir(layout.folder('volumes')))) ?? [];
  return names.filter((name) => layout.identify('volumes', name)?.id === volumeId && isBeside(name));
}

/** Gives files a second name in another folder; one of that name which is another file, and no volume's there, goes. */
export async function linkAll(names: readonly string[], from: Layout, to: Layout): Promise<void> {
  for (const name of names) {
    const [source, target] = [pathIn(from, name), pathIn(to, name)];
    if (await isSame(source, target)) continue;
    await removeName(target);
    try {
      await link(source, target);
    } catch (error) {
      // The answer of an NFS server may have been lost, and this one be of the call that was sent again.
      if (errno(error) !== 'EEXIST' || !(await isSame(source, target))) throw error;
    }
  }
  await syncFolder(to.folder('volumes'));
}

/** Takes away the names in a folder of files which another one has, too. */
export async function dropLinked(volumeId: string, from: Layout, kept: Layout): Promise<void> {
  for (const name of await namesBeside(from, volumeId)) {
    const path = pathIn(from, name);
    if (await isSame(path, pathIn(kept, name))) await removeName(path);
  }
  if ((await lstatIfThere(from.folder('volumes'))) !== null) await syncFolder(from.folder('volumes'));
}

/** Takes away all names beside a volume whose own file is another node's, but for those that are to stay. */
export async function dropAll(
  layout: Layout,
  volumeId: string,
  staying: readonly string[] = [],
): Promise<void> {
  for (const name of await namesBeside(layout, volumeId))
    if (!staying.includes(name)) await removeName(pathIn(layout, name));
}

export function notWhole(volumeId: string, why: string): AgentError {
  return new AgentError('UNSUPPORTED', `Volume ${volumeId} can't pass to another node: ${why}`, {
    hint: 'Make it again from a backup: backup.restore, backup.recreate.',
  });
}

function wrong(volumeId: string, why: string): AgentError {
  return new AgentError('HOST_CONFLICT', `Volume ${volumeId} does not pass to another node: ${why}`, {
    hint: 'Look who has written to the pool; then make it again from a backup: backup.restore, backup.recreate.',
  });
}

function pathIn(layout: Layout, name: string): string {
  return join(layout.folder('volumes'), name);
}

async function judgeLayer(
  { volumeId, beside }: Passing,
  path: string,
  { encrypted }: Qcow2Header,
): Promise<PassingLayer> {
  const id = beside.layerAt(volumeId, path) as string;
  const header = await readHeader(path);
  const below = header?.backingFile ?? null;
  if (header === null || below === null) throw wrong(volumeId, `layer ${id} stands on nothing`);
  const parent = beside.layerNamed(volumeId, below);
  if (parent === undefined)
    throw wrong(volumeId, `layer ${id} stands on ${excerpt(below)}, which is no file of its volume`);
  if (header.encrypted !== encrypted)
    throw wrong(
      volumeId,
      `layer ${id} is ${header.encrypted ? 'encrypted' : 'in clear'}, and what it stands on is not`,
    );
  return { id, path, parent, isAbsolute: below.includes('/') };
}

/** Each layer leads down to the volume's own file. */
function assertTree(volumeId: string, layers: readonly PassingLayer[]): void {
  if (layers.length > PASSING_LAYERS_MAX)
    throw wrong(volumeId, `it has ${layers.length} layers; ${PASSING_LAYERS_MAX} are the most`);
  const parents = new Map(layers.map(({ id, parent }) => [id, parent]));
  for (const { id } of layers) {
    let depth = 0;
    for (let at: LayerId = id; at !== null; at = parents.get(at) as LayerId) {
      if (!parents.has(at)) throw wrong(volumeId, `layer ${at}, which another one stands on, is missing`);
      if (++depth > Math.min(DEPTH_MAX, layers.length))
        throw wrong(volumeId, `layer ${id} stands on more than ${DEPTH_MAX} layers, or on itself`);
    }
  }
}

async function assertSmall(volumeId: string, path: string): Promise<void> {
  const limit = path.endsWith('.nvram') ? NVRAM_BYTES_LIMIT : RECORD_BYTES_MAX;
  const { size } = await lstat(path);
  if (size > limit) throw wrong(volumeId, `${basename(path)} has ${size} bytes; ${limit} are the most`);
}

/**
 * One file by one name, which may be there in the folders of several nodes: those of nodes that were to take it, and have
 * not. A second name elsewhere would be another volume's file. Who takes it at the same time gives names and takes them
 * away between two of these looks, so it is looked again.
 */
async function assertOneName(volumeId: string, path: string, places: readonly string[]): Promise<void> {
  for (let look = 1; ; look++) {
    const stats = await lstat(path);
    if (!stats.isFile()) throw wrong(volumeId, `${basename(path)} is no file`);
    if (stats.nlink === 1) return;
    const same = await Promise.all(places.map((place) => isSame(path, place)));
    if (stats.nlink === same.filter(Boolean).length) return;
    if (look === LOOKS)
      throw wrong(volumeId, `${basename(path)} has ${stats.nlink} names, and is somebody else's file, too`);
    await delay(LOOK_PAUSE_MS);
  }
}

async function isSame(path: string, other: string): Promise<boolean> {
  const [one, two] = await Promise.all([lstatIfThere(path), lstatIfThere(other)]);
  return one !== null && two !== null && one.isFile() && one.ino === two.ino && one.dev === two.dev;
}

async function removeName(path: string): Promise<void> {
  await ifThere(unlink(path));
}

/** Longest excerpt of a header's name that is put into a message, characters. */
const EXCERPT_LIMIT = 120;

function excerpt(name: string): string {
  return JSON.stringify(name.slice(0, EXCERPT_LIMIT));
}
