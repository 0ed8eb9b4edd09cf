/**
 * Can QEMU's user reach the pool? Tried as that user, folder by folder from the root, since modes alone do
 * not tell (groups, ACLs, security modules).
 */
import { dirname } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import type { CallLimit } from './call-limit.ts';
import type { Exec } from './exec.ts';
import { failure, ok, readIfThere, warning } from './findings.ts';

const QEMU_CONF = '/etc/libvirt/qemu.conf';
/** Users that libvirt packages give QEMU, Debian's and Fedora's. */
const QEMU_USERS: readonly string[] = ['libvirt-qemu', 'qemu'];

export interface PoolWayParts {
  exec: Exec;
  /** Null leaves the check out. */
  poolPath: string | null;
  /** Null: what libvirt's configuration says, else one of its packages' users. */
  qemuUser: string | null;
  limit: CallLimit;
}

interface User {
  name: string;
  groupId: string;
}

export async function examinePoolWay(check: string, parts: PoolWayParts): Promise<Finding | null> {
  const { poolPath } = parts;
  if (poolPath === null) return null;
  const user = await findUser(parts);
  if (user === null)
    return warning(check, 'There is no user of QEMU on this host.', 'Install libvirt and QEMU.');
  if (process.getuid?.() !== 0) {
    return warning(check, `Only root can try whether ${user.name} reaches ${poolPath}.`, null);
  }
  const barred = await firstBarred(parts, user, poolPath);
  if (barred === null) return ok(check, `QEMU's user, ${user.name}, reaches ${poolPath}.`);
  return failure(
    check,
    `QEMU's user, ${user.name}, cannot pass through ${barred}, so no guest can open its disks.`,
    `Make it if it is missing, and let others pass: chmod o+x ${barred}`,
  );
}

async function findUser({ exec, qemuUser, limit }: PoolWayParts): Promise<User | null> {
  const named = qemuUser ?? configuredUser((await readIfThere(QEMU_CONF)) ?? '');
  for (const name of named === null ? QEMU_USERS : [named]) {
    const { exitCode, stdout } = await exec.run('id', ['-g', '--', name], {
      okCodes: [0, 1],
      signal: limit.signal,
    });
    if (exitCode === 0) return { name, groupId: stdout.trim() };
  }
  return null;
}

/** A leading + marks a numeric user. @see qemu.conf, "user" */
export function configuredUser(conf: string): string | null {
  return /^\s*user\s*=\s*"\+?([^"]+)"/m.exec(conf)?.[1] ?? null;
}

/** The outermost folder on the way that the user cannot enter; null when it gets through. */
async function firstBarred(parts: PoolWayParts, user: User, path: string): Promise<string | null> {
  for (const folder of ancestry(path)) {
    if (!(await mayEnter(parts, user, folder))) return folder;
  }
  return null;
}

/** Both programs end with 1 for no; setpriv alone writes why. */
async function mayEnter({ exec, limit }: PoolWayParts, user: User, folder: string): Promise<boolean> {
  const as = ['--reuid', user.name, '--regid', user.groupId, '--init-groups'];
  const { exitCode, stderr } = await exec.run('setpriv', [...as, '--', 'test', '-x', folder], {
    okCodes: [0, 1],
    signal: limit.signal,
  });
  if (stderr !== '') throw new AgentError('UNAVAILABLE', `Cannot act as user ${user.name}: ${stderr}`);
  return exitCode === 0;
}

/** All folders from the root's first to `path` itself. */
function ancestry(path: string): string[] {
  return path === '/' ? [] : [...ancestry(dirname(path)), path];
}
