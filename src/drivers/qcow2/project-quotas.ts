/**
 * Project quotas: what a folder with all that is below it may take of its file system.
 *
 * XFS and ext4 have them, where they are mounted so. A folder is given to a project of its own before anything is in
 * it, and what is made below it inherits that: no tree that a guest works in is ever walked. That the kernel holds a
 * limit is seen at the folder itself, whose statfs(2) tells the limit as the size of the file system.
 *
 * @see ioctl_xfs_fsgetxattr(2), setquota(8), chattr(1)
 */
import { statfs } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import { GIB } from '../../model/units.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { Exec } from '../host/exec.ts';

const KIB_PER_GIB = 1024 ** 2;
/** Projects below are left to operators, who number theirs by hand. */
const PROJECT_MIN = 0x4000_0000;
/** Digits of an id that make its project: 28 bits beside the one of PROJECT_MIN. */
const PROJECT_DIGITS = 7;
/** How XFS and ext4 say that they hold projects to their limits. */
const QUOTA_OPTIONS = new Set(['prjquota', 'pquota']);

interface Mount {
  target: string;
  fstype: string;
  options: string;
}

/** The project of a share: of two shares it is the same once in a hundred million. */
export function projectOf(shareId: string): number {
  return PROJECT_MIN + Number.parseInt(shareId.replaceAll('-', '').slice(0, PROJECT_DIGITS), 16);
}

export class ProjectQuotas {
  readonly #exec: Exec;

  constructor(exec: Exec) {
    this.#exec = exec;
  }

  /** Gives an empty folder to the project of its share, where the file system keeps projects. */
  async adopt(path: string, shareId: string, limit: CallLimit): Promise<void> {
    if (!keepsProjects(await this.#mountOf(path, limit))) return;
    const { signal } = limit;
    await this.#exec.run('chattr', ['-p', String(projectOf(shareId)), '+P', path], { signal });
  }

  /**
   * Sets what a folder may hold.
   *
   * @param quotaGib Null: all that there is.
   * @throws {AgentError} UNSUPPORTED: a limit that would not be held.
   */
  async set(path: string, shareId: string, quotaGib: number | null, limit: CallLimit): Promise<void> {
    const mount = await this.#mountOf(path, limit);
    if (!keepsProjects(mount)) {
      if (quotaGib === null) return;
      throw noQuotas(mount);
    }
    await this.#limit(mount, shareId, quotaGib, limit);
    if (quotaGib !== null && (await sizeSeenAt(path)) > quotaGib * GIB) throw notAdopted(path);
  }

  /** Takes away what is known of a project whose folder is gone. @param folder One of the same file system. */
  async forget(folder: string, shareId: string, limit: CallLimit): Promise<void> {
    const mount = await this.#mountOf(folder, limit);
    if (keepsProjects(mount)) await this.#limit(mount, shareId, null, limit);
  }

  async #limit({ target }: Mount, shareId: string, quotaGib: number | null, limit: CallLimit): Promise<void> {
    const kib = String((quotaGib ?? 0) * KIB_PER_GIB);
    const args = ['-P', String(projectOf(shareId)), '0', kib, '0', '0', target];
    await this.#exec.run('setquota', args, { signal: limit.signal }).catch((error: unknown) => {
      throw isMissing(error) ? noTool(error) : error;
    });
  }

  async #mountOf(path: string, { signal }: CallLimit): Promise<Mount> {
    const args = ['-J', '-o', 'TARGET,FSTYPE,OPTIONS', '-T', path];
    const { stdout } = await this.#exec.run('findmnt', args, { signal });
    const [mount] = (JSON.parse(stdout) as { filesystems: [Mount] }).filesystems;
    return mount;
  }
}

/** Bytes that what is below a folder with a limit takes. */
export async function bytesTakenBelow(path: string): Promise<number> {
  const { bsize, blocks, bfree } = await statfs(path);
  return bsize * (blocks - bfree);
}

async function sizeSeenAt(path: string): Promise<number> {
  const { bsize, blocks } = await statfs(path);
  return bsize * blocks;
}

function keepsProjects({ fstype, options }: Mount): boolean {
  const isKnown = fstype === 'xfs' || fstype === 'ext4';
  return isKnown && options.split(',').some((option) => QUOTA_OPTIONS.has(option));
}

function noQuotas({ target, fstype }: Mount): AgentError {
  return new AgentError(
    'UNSUPPORTED',
    `A quota needs project quotas, and ${fstype} on ${target} keeps none`,
    {
      hint: 'Mount XFS, or ext4 with the features quota and project, with the option prjquota; or leave the quota out.',
    },
  );
}

function notAdopted(path: string): AgentError {
  return new AgentError(
    'UNSUPPORTED',
    `A quota on ${path} would not be held: it is of no project of its own`,
    {
      hint: 'It was made while the file system kept no project quotas: make another share, and move the files.',
    },
  );
}

function noTool(cause: unknown): AgentError {
  return new AgentError('UNSUPPORTED', 'A quota needs setquota', {
    hint: 'Install it: apt-get install quota',
    cause,
  });
}

function isMissing(error: unknown): boolean {
  return error instanceof AgentError && error.code === 'UNSUPPORTED';
}
