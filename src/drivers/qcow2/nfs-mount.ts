/**
 * The NFS mount that a pool lies on, where the node makes it itself.
 *
 * It is made where it is missing and left where it is: guests have files open there, which outlive the agent. Whether it is
 * there is read from the kernel's table, which answers even while the server does not. Where systemd is the service
 * manager, mount(8) runs in a unit of its own: a mount that the agent made in its sandbox would be seen by nobody else.
 */
import { existsSync } from 'node:fs';
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { type Exec, ProcessError } from '../host/exec.ts';

const MOUNTS_FILE = '/proc/self/mountinfo';
/** There where systemd is the machine's init. @see sd_booted(3) */
const SYSTEMD_FOLDER = '/run/systemd/system';
/** One try: who asks tries again, and a mount that hangs for minutes keeps the pool from being told. @see nfs(5), retry */
const ONE_TRY = 'retry=0';

export interface NfsMountParts {
  /** Folder that it is mounted on. */
  path: string;
  /** server:/export */
  source: string;
  /** As mount(8) takes them. */
  options: string;
  exec: Exec;
  /** @default by whether systemd is the machine's init */
  serviceManager?: 'systemd' | 'none';
  /** The kernel's table of mounts. @default '/proc/self/mountinfo' */
  mountsFile?: string;
}

export interface Mount {
  fileSystem: string;
  source: string;
}

export class NfsMount {
  readonly #parts: NfsMountParts;

  constructor(parts: NfsMountParts) {
    this.#parts = parts;
  }

  /**
   * Mounts it, where it is not.
   *
   * @throws {AgentError} UNAVAILABLE: it cannot be mounted now. HOST_CONFLICT: something else is mounted there.
   *   UNSUPPORTED: there is no mount.nfs.
   */
  async ensure(limit: CallLimit): Promise<void> {
    const { path, source, mountsFile = MOUNTS_FILE } = this.#parts;
    const mount = findMount(await readFile(mountsFile, 'utf8'), await inTable(path));
    if (mount === null) return this.#mount(limit);
    if (isNfs(mount) && withoutSlash(mount.source) === withoutSlash(source)) return;
    throw new AgentError(
      'HOST_CONFLICT',
      `${path} cannot have ${source}: ${mount.source} is mounted there, ${mount.fileSystem}`,
      { hint: 'Unmount that, or say where the pool lies: `nfs` and `path` of its [[pools]] section.' },
    );
  }

  async #mount({ signal }: CallLimit): Promise<void> {
    const { path, source, exec } = this.#parts;
    const [program, ...args] = this.#command();
    try {
      await exec.run(program as string, args, { signal });
    } catch (cause) {
      if (!(cause instanceof ProcessError)) throw cause;
      throw new AgentError('UNAVAILABLE', `Cannot mount ${source} on ${path}`, {
        cause,
        hint: 'See that the server exports it to this host, and that nfs-common is installed here.',
      });
    }
  }

  #command(): string[] {
    const { path, source, options, serviceManager = manager() } = this.#parts;
    const all = /(^|,)retry=/.test(options) ? options : `${options},${ONE_TRY}`;
    const mount = ['mount', '-t', 'nfs', '-o', all, '--', source, path];
    if (serviceManager === 'none') return mount;
    return ['systemd-run', '--quiet', '--collect', '--wait', '--pipe', '--', ...mount];
  }
}

/** What is mounted on a folder, the last one where there are several; null for nothing. @see proc(5), mountinfo */
export function findMount(mounts: string, path: string): Mount | null {
  const found = mounts
    .split('\n')
    .map((line) => line.split(' '))
    .findLast((fields) => unescapeMount(fields[4] ?? '') === path);
  if (found === undefined) return null;
  const [fileSystem = '', source = ''] = found.slice(found.indexOf('-') + 1);
  return { fileSystem, source: unescapeMount(source) };
}

/** As the kernel names it; what is mounted on it is not touched. */
async function inTable(path: string): Promise<string> {
  return join(await realpath(dirname(path)), basename(path));
}

function withoutSlash(source: string): string {
  return source.replace(/(?<=[^:])\/+$/, '');
}

function isNfs({ fileSystem }: Mount): boolean {
  return fileSystem === 'nfs' || fileSystem === 'nfs4';
}

/** Blanks and backslashes are octal there. */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function manager(): 'systemd' | 'none' {
  return existsSync(SYSTEMD_FOLDER) ? 'systemd' : 'none';
}
