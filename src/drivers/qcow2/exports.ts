/**
 * Exports: a volume, with what it stands on, written into one file of another format for somewhere else.
 *
 *   PATH.<volume>.partial (by qemu-img in the cage) ─▶ digest ─▶ hard link PATH ─▶ PATH.sha256 ─▶ finish: partial goes
 *
 * While PATH and the partial file are one file, PATH is proven to be ours; nothing else is ever removed. The link also
 * fails where somebody has put something there meanwhile, which a rename would replace.
 *
 * The digest is in the form of sha256sum, so that `sha256sum -c` checks the file wherever it goes. A guest that uses
 * the volume holds QEMU's lock on it: then qemu-img refuses, and nothing is written.
 */
import { constants } from 'node:fs';
import { access, link, open } from 'node:fs/promises';
import { basename, dirname, isAbsolute, normalize } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { ExportFormat } from '../../model/storage.ts';
import type { ProgressListener } from '../contracts/calls.ts';
import type { ExportFacts, ExportPlace, VolumeExport } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { sha256OfFile } from './digests.ts';
import {
  errno,
  exists,
  lstatIfThere,
  PARTIAL_SUFFIX,
  readAt,
  removeDurably,
  sizeOfRegular,
  syncFolder,
  takeOver,
  writeDurably,
} from './files.ts';
import { checkId } from './layout.ts';
import { type VolumeParts, writeWhole } from './whole-volume.ts';

/** All bytes of a guest: the agent's user alone reads them, until the operator gives them to others. */
const EXPORT_MODE = 0o600;
const DIGEST_BYTES_LIMIT = 8192;
/** What each format is called by qemu-img, and the variant of it that others read: one file, growing with its data. */
const OUTPUTS: Readonly<Record<ExportFormat, readonly string[]>> = {
  qcow2: ['-O', 'qcow2'],
  raw: ['-O', 'raw'],
  vmdk: ['-O', 'vmdk', '-o', 'subformat=monolithicSparse'],
  vhdx: ['-O', 'vhdx', '-o', 'subformat=dynamic'],
};

export class ExportStore {
  readonly #parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
  }

  async make(request: VolumeExport, limit: CallLimit, onProgress: ProgressListener): Promise<ExportFacts> {
    const { path } = request;
    await this.#checkPath(path);
    const partialPath = partialOf(request);
    await removeDurably(partialPath);
    const { volumeId: id, image, layers = [], encryption = null, format } = request;
    const output = { args: OUTPUTS[format] };
    const whole = { id, image, layers, encryption, output, path: partialPath };
    await writeWhole(this.#parts, whole, limit, onProgress);
    const sha256 = await sha256OfFile(partialPath, limit, (done, total) =>
      onProgress(done, total, 'checking'),
    );
    const sizeBytes = (await sizeOfRegular(partialPath)) ?? 0;
    await linkNew(partialPath, path);
    await writeDurably(digestOf(path), `${sha256}  ${basename(path)}\n`, EXPORT_MODE);
    return { sha256, sizeBytes };
  }

  async look(place: ExportPlace): Promise<ExportFacts | null> {
    checkedPath(place.path);
    if (!(await isOurs(place)) || !(await exists(digestOf(place.path)))) return null;
    await using file = await open(digestOf(place.path), 'r');
    const text = (await readAt(file, 0, DIGEST_BYTES_LIMIT)).toString('utf8');
    const sha256 = /^([0-9a-f]{64}) {2}/.exec(text)?.[1];
    const sizeBytes = await sizeOfRegular(place.path);
    return sha256 === undefined || sizeBytes === null ? null : { sha256, sizeBytes };
  }

  async finish(place: ExportPlace): Promise<void> {
    await removeDurably(partialOf(place));
  }

  /** The proof goes last. */
  async remove(place: ExportPlace): Promise<void> {
    const digest = digestOf(checkedPath(place.path));
    if (await isOurs(place)) {
      for (const made of [digest, `${digest}${PARTIAL_SUFFIX}`, place.path]) await removeDurably(made);
    }
    await removeDurably(partialOf(place));
  }

  async #checkPath(path: string): Promise<void> {
    checkedPath(path);
    const folder = dirname(path);
    await access(folder, constants.W_OK | constants.X_OK).catch((cause: unknown) => {
      throw new AgentError('INVALID_ARGUMENT', `Nothing can be written into ${folder}`, { cause });
    });
    if (`${path}/`.startsWith(`${this.#parts.layout.base}/`)) {
      throw new AgentError('PERMISSION_DENIED', `${path} lies in the pool, which is the agent's own`);
    }
    for (const taken of [path, digestOf(path)]) {
      if (await exists(taken)) throw new AgentError('ALREADY_EXISTS', `${taken} exists already`);
    }
  }
}

function checkedPath(path: string): string {
  if (isAbsolute(path) && normalize(path) === path && !path.endsWith('/') && !path.includes('\0'))
    return path;
  throw new AgentError('INVALID_ARGUMENT', 'An export goes to an absolute and normal path');
}

function partialOf({ path, volumeId }: ExportPlace): string {
  return `${path}.${checkId(volumeId)}${PARTIAL_SUFFIX}`;
}

async function isOurs(place: ExportPlace): Promise<boolean> {
  const made = await lstatIfThere(place.path);
  const proof = await lstatIfThere(partialOf(place));
  return made !== null && proof !== null && made.ino === proof.ino && made.dev === proof.dev;
}

async function linkNew(from: string, to: string): Promise<void> {
  await takeOver(from, EXPORT_MODE);
  try {
    await link(from, to);
  } catch (cause) {
    if (errno(cause) === 'EEXIST') throw new AgentError('ALREADY_EXISTS', `${to} exists already`, { cause });
    throw cause;
  }
  await syncFolder(dirname(to));
}

function digestOf(path: string): string {
  return `${path}.sha256`;
}
