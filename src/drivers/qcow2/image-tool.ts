/**
 * The host's tools on hostile image bytes: each run is a child in the cage of host/sandbox.ts.
 *
 * A file is lent by descriptor, and the cage's user gets the right to that one file: to read it, by its group, or to
 * write it, as its owner. Inside the child it is `lent(0)`, `/dev/fd/3` and on, whatever the folders above it allow.
 * A child that this image alone can have brought to a bad end is the image's fault: IMAGE_REFUSED.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { type Exec, ProcessError, type RunOptions, type RunResult } from '../host/exec.ts';
import type { ResourceLimits, SandboxUser } from '../host/sandbox.ts';
import { saysNoRoom } from './files.ts';

/**
 * 2 GiB of address space: qemu-img itself maps about 0.4 GiB, and a check keeps 2 bytes for each cluster.
 * 300 s of CPU: a whole check of a 256 GiB image with clusters of 64 KiB takes a few seconds.
 */
const LOOK_LIMITS: ResourceLimits = {
  addressSpaceBytes: 2 * 1024 ** 3,
  cpuSeconds: 300,
  fileSizeBytes: 0,
};
/** Wall-clock time of a child that only looks, milliseconds: its CPU limit, and a disk that is slow. */
const LOOK_TIMEOUT_MS = 600_000;
/** Errors of a check, some 100 bytes each; extents of a map, 36,000 of them. An image that has more is refused. */
const OUTPUT_BYTES_LIMIT = 4 * 1024 * 1024;
/** Read by the cage's user through its group, and by nobody else. */
const LENT_MODE = 0o640;
const MADE_MODE = 0o600;

export interface ToolRun extends Pick<RunOptions, 'okCodes' | 'onStdout' | 'consume' | 'stdinFile' | 'lane'> {
  files?: readonly FileHandle[];
  /** @default to look and to write nothing */
  limits?: ResourceLimits;
  /** Milliseconds. @default LOOK_TIMEOUT_MS */
  timeoutMs?: number;
}

export class ImageTool {
  readonly #exec: Exec;
  readonly #user: SandboxUser | null;

  constructor({ exec, user }: { exec: Exec; user: SandboxUser | null }) {
    this.#exec = exec;
    this.#user = user;
  }

  /** @throws {AgentError} IMAGE_REFUSED: the tool came to a bad end. CAPACITY_EXCEEDED: the disk is full. */
  async run(program: string, args: readonly string[], run: ToolRun, limit: CallLimit): Promise<RunResult> {
    const { files = [], limits = LOOK_LIMITS, timeoutMs = LOOK_TIMEOUT_MS, ...rest } = run;
    try {
      return await this.#exec.run(program, args, {
        ...rest,
        limits,
        timeoutMs,
        sandbox: this.#user,
        files: files.map(({ fd }) => fd),
        outputLimitBytes: OUTPUT_BYTES_LIMIT,
        signal: limit.signal,
      });
    } catch (error) {
      limit.check();
      throw verdict(`${program} ${args[0] ?? ''}`, error);
    }
  }

  /** Opens a file for the cage to read. */
  lend(path: string): Promise<FileHandle> {
    return this.#opened(path, 'r', (file, { gid }) => lendTo(file, gid));
  }

  /** Opens a file of ours for the cage to write. */
  lendToWrite(path: string): Promise<FileHandle> {
    return this.#opened(path, 'r+', (file, { uid, gid }) => file.chown(uid, gid));
  }

  /** Gives what is open here to the cage's user. */
  async give(file: FileHandle): Promise<void> {
    if (this.#user !== null) await file.chown(this.#user.uid, this.#user.gid);
  }

  /** Makes a file for the cage to write. @throws EEXIST, where there is one */
  make(path: string): Promise<FileHandle> {
    return this.#opened(path, 'wx+', (file, { uid, gid }) => file.chown(uid, gid));
  }

  /** @param flags As open() has them; what is made is for its owner alone. */
  async #opened(
    path: string,
    flags: string,
    allow: (file: FileHandle, user: SandboxUser) => Promise<void>,
  ): Promise<FileHandle> {
    const file = await open(path, flags, MADE_MODE);
    try {
      if (this.#user !== null) await allow(file, this.#user);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}

/** A published file may be read by all already, and keeps its owner. */
async function lendTo(file: FileHandle, gid: number): Promise<void> {
  const { uid, mode } = await file.stat();
  if ((mode & 0o004) !== 0) return;
  await file.chown(uid, gid);
  await file.chmod(LENT_MODE);
}

function verdict(what: string, error: unknown): unknown {
  if (error instanceof ProcessError && saysNoRoom(error.stderr)) return error;
  const atFault =
    error instanceof ProcessError ||
    (error instanceof AgentError && error.details?.['outputLimitBytes'] !== undefined);
  return atFault ? refused(`${what} cannot read it within its limits`, error) : error;
}

/** The refusal of an image, for a reason in one sentence without a full stop. */
export function refused(reason: string, cause?: unknown): AgentError {
  return new AgentError('IMAGE_REFUSED', `Image refused: ${reason}`, cause === undefined ? {} : { cause });
}
