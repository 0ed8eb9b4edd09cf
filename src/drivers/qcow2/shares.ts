/**
 * Shares: folders that guests mount, each with a label beside it.
 *
 * What is in a share is the guests': root in any of them may put there what it likes, links and trees of any depth and
 * names of any bytes included. So nothing in it is read or walked by the agent itself; its removal is rm's, which goes
 * down by descriptors, follows no link and leaves no file system. The folder that holds the shares is closed to all but
 * root, and guests have no way to anything beside their folder.
 */
import { chmod, mkdir, opendir, rename, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Name, nullable, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { Type } from '../../model/schema.ts';
import { QuotaGib } from '../../model/share.ts';
import type { FoundShare, ShareLabel, ShareRequest } from '../contracts/storage.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { type Exec, ProcessError } from '../host/exec.ts';
import {
  doing,
  errno,
  exists,
  lstatIfThere,
  PARTIAL_SUFFIX,
  readAs,
  readSmall,
  removeDurably,
  syncFolder,
  writeDurably,
} from './files.ts';
import { KeyedLock } from './keyed-lock.ts';
import { checkId, type Layout } from './layout.ts';
import { bytesTakenBelow, ProjectQuotas } from './project-quotas.ts';

/** Of the folder as a guest first sees it; root in a guest may change it. */
const SHARE_MODE = 0o755;
/** For the agent alone. */
const LABEL_MODE = 0o600;
/** Millions of files, on a slow disk, milliseconds. */
export const REMOVE_TIMEOUT_MS = 6 * 3600_000;
/** How rm says that something else is mounted in a tree. @see remove.c, coreutils */
const OTHER_MOUNT = /different device|Device or resource busy/;

const StoredLabel = strict({
  version: Type.Literal(1),
  name: Name,
  createdAt: Type.String({ maxLength: 64 }),
  quotaGib: nullable(QuotaGib),
  protected: Type.Boolean(),
});

export interface ShareStoreParts {
  layout: Layout;
  exec: Exec;
}

export class ShareStore {
  readonly #layout: Layout;
  readonly #exec: Exec;
  readonly #quotas: ProjectQuotas;
  readonly #lock = new KeyedLock();

  constructor({ layout, exec }: ShareStoreParts) {
    this.#layout = layout;
    this.#exec = exec;
    this.#quotas = new ProjectQuotas(exec);
  }

  async make({ id, label }: ShareRequest, limit: CallLimit): Promise<void> {
    await this.#lock.hold(checkId(id), limit, async () => {
      const before = await this.look(id);
      if (before === null) await this.#create(id, label, limit);
      else checkAlike(id, before.label, label);
    });
  }

  async look(id: string): Promise<{ label: ShareLabel | null } | null> {
    return (await this.#isThere(id)) ? { label: await this.#readLabel(id) } : null;
  }

  /** What is known of a share whose folder is there. */
  async find(id: string): Promise<FoundShare | null> {
    const label = await this.#readLabel(id);
    const stats = await lstatIfThere(this.#layout.share(id));
    if (stats === null) return null;
    return { id, label, fault: stats.isDirectory() ? null : 'it is no folder' };
  }

  async configure(id: string, label: ShareLabel, limit: CallLimit): Promise<void> {
    await this.#lock.hold(checkId(id), limit, async () => {
      const found = await this.look(id);
      if (found === null) throw new AgentError('NOT_FOUND', `There is no share ${id} in this pool`);
      // Also where the label says so already: a crash may have come between the two.
      await this.#quotas.set(this.#layout.share(id), id, label.quotaGib, limit);
      await this.#writeLabel(id, label);
    });
  }

  /** The label goes last: a crash in between leaves a name that `list` still shows. */
  async remove(id: string, files: 'removed' | 'kept', limit: CallLimit): Promise<void> {
    const path = this.#layout.share(id);
    await this.#lock.hold(id, limit, async () => {
      for (const each of [path, path + PARTIAL_SUFFIX]) {
        if (files === 'kept') await removeEmpty(each);
        else await this.#removeTree(each, limit);
      }
      await syncFolder(dirname(path));
      if ((await this.#readLabel(id))?.quotaGib != null) await this.#quotas.forget(dirname(path), id, limit);
      await removeDurably(this.#layout.shareLabel(id) + PARTIAL_SUFFIX);
      await removeDurably(this.#layout.shareLabel(id));
    });
  }

  /** Bytes of its files, where it has a quota; those of others count as taken by nobody of ours. */
  async bytesOf(id: string): Promise<number> {
    const label = await this.#readLabel(id);
    const isThere = label?.quotaGib != null && (await this.#isThere(id));
    return isThere ? bytesTakenBelow(this.#layout.share(id)) : 0;
  }

  async #create(id: string, label: ShareLabel, limit: CallLimit): Promise<void> {
    const path = this.#layout.share(id);
    const partial = path + PARTIAL_SUFFIX;
    await removeDurably(partial);
    await mkdir(partial, { mode: SHARE_MODE });
    // The agent's umask may have cut it.
    await chmod(partial, SHARE_MODE);
    await this.#quotas.adopt(partial, id, limit);
    await this.#writeLabel(id, label);
    if (label.quotaGib !== null) await this.#quotas.set(partial, id, label.quotaGib, limit);
    await rename(partial, path);
    await syncFolder(dirname(path));
  }

  async #removeTree(path: string, limit: CallLimit): Promise<void> {
    if ((await lstatIfThere(path)) === null) return;
    const args = ['-rf', '--one-file-system', '--', path];
    const options = { signal: limit.signal, timeoutMs: REMOVE_TIMEOUT_MS };
    await this.#exec.run('rm', args, options).catch((error: unknown) => {
      throw isOtherMount(error) ? mountedBelow(path, error) : error;
    });
  }

  /** @throws {AgentError} HOST_CONFLICT: something else has its name. */
  async #isThere(id: string): Promise<boolean> {
    const path = this.#layout.share(id);
    // Throws where the folder of all shares is missing, as when a file system is not mounted.
    if (!(await exists(path))) return false;
    if ((await lstatIfThere(path))?.isDirectory()) return true;
    throw new AgentError('HOST_CONFLICT', `${path} is no share of this agent: it is no folder`);
  }

  async #writeLabel(id: string, { name, createdAt, quotaGib, protected: kept }: ShareLabel): Promise<void> {
    const text = JSON.stringify({ version: 1, name, createdAt, quotaGib, protected: kept });
    await writeDurably(this.#layout.shareLabel(id), `${text}\n`, LABEL_MODE);
  }

  async #readLabel(id: string): Promise<ShareLabel | null> {
    const path = this.#layout.shareLabel(id);
    if (!(await exists(path))) return null;
    return parseLabel(await doing(`read ${path}`, () => readSmall(path)));
  }
}

/** Whether anything is in a folder; false for what is none. */
export async function holdsAnything(path: string): Promise<boolean> {
  if (!(await lstatIfThere(path))?.isDirectory()) return false;
  await using folder = await opendir(path);
  return (await folder.read()) !== null;
}

async function removeEmpty(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    const code = errno(error);
    if (code === 'ENOENT') return;
    if (code !== 'ENOTEMPTY' && code !== 'ENOTDIR') throw error;
    throw new AgentError('HOST_CONFLICT', `${path} holds files, which nobody has asked to remove`, {
      hint: 'See what they are, and move or remove them by hand.',
      cause: error,
    });
  }
}

function parseLabel(text: string): ShareLabel | null {
  const label = readAs(StoredLabel, text);
  if (label === null) return null;
  const { name, createdAt, quotaGib, protected: kept } = label;
  return { name, createdAt, quotaGib, protected: kept };
}

function checkAlike(id: string, has: ShareLabel | null, asked: ShareLabel): void {
  if (has?.quotaGib === asked.quotaGib) return;
  throw new AgentError(
    'HOST_CONFLICT',
    `Share ${id} exists with ${quotaText(has)}, and is asked for with ${quotaText(asked)}`,
  );
}

function quotaText(label: ShareLabel | null): string {
  if (label === null) return 'no label';
  return label.quotaGib === null ? 'no quota' : `a quota of ${label.quotaGib} GiB`;
}

function isOtherMount(error: unknown): boolean {
  return error instanceof ProcessError && OTHER_MOUNT.test(error.stderr);
}

function mountedBelow(path: string, cause: unknown): AgentError {
  return new AgentError('HOST_CONFLICT', `A file system is mounted in ${path}`, {
    hint: 'Unmount it, and try again.',
    cause,
  });
}
