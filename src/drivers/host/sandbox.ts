/**
 * A cage for tools that read hostile bytes: little memory, CPU and file size, no network, and a user with no rights.
 *
 *   prlimit ─▶ unshare --net ─▶ setpriv ─▶ tool       each replaces itself by the next: one process, 4 ms more
 *
 * Files are handed over as descriptors (`RunOptions.files`), so the user needs no right of way through any folder. It
 * works without systemd, and under berthd's own unit, which leaves the agent network namespaces and changes of user and
 * nothing else of this kind. The user is one of our own: as `libvirt-qemu` a tool that is taken over could write to the
 * disks of running guests.
 */
import { readFileSync } from 'node:fs';

/** Users to run as, in order of preference: the package's own, and the one that every system has. */
const USERS = ['berth-image', 'nobody'];
/** Processes and threads of that user at once: sixteen children with a pool of QEMU's 64 threads at half use. */
const PROCESSES_LIMIT = 512;
/** Descriptors of one child: its files, and what QEMU's event loop opens. */
const DESCRIPTORS_LIMIT = 64;

/** Limits that prlimit(1) sets before the program runs. */
export interface ResourceLimits {
  addressSpaceBytes?: number;
  cpuSeconds?: number;
  fileSizeBytes?: number;
}

export interface SandboxUser {
  uid: number;
  gid: number;
}

/**
 * Whom the cage makes a tool run as; null where the agent is not root and can become nobody else. Then the tool keeps
 * the agent's user and still has no network and the limits.
 *
 * @throws {Error} /etc/passwd cannot be read, or has none of the users.
 */
export function sandboxUser(): SandboxUser | null {
  if (process.getuid?.() !== 0) return null;
  const entries = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of USERS) {
    const entry = entries.find(([user]) => user === name);
    if (entry !== undefined) return { uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new Error(`none of the users ${USERS.join(', ')} is in /etc/passwd`);
}

/** The command line of `program` under `limits` alone. */
export function limited(limits: ResourceLimits, command: readonly string[]): string[] {
  return ['prlimit', ...limitFlags(limits), '--', ...command];
}

/** The command line of `program` in the cage. */
export function caged(
  user: SandboxUser | null,
  limits: ResourceLimits,
  command: readonly string[],
): string[] {
  // A core would be a copy of the image's bytes on the host's disk.
  const flags = [...limitFlags(limits), '--core=0', `--nofile=${DESCRIPTORS_LIMIT}`];
  if (user === null) {
    return ['prlimit', ...flags, '--', 'unshare', '--user', '--net', '--', ...command];
  }
  const { uid, gid } = user;
  return [
    'prlimit',
    ...flags,
    `--nproc=${PROCESSES_LIMIT}`,
    '--',
    ...['unshare', '--net', '--'],
    ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--inh-caps=-all', '--no-new-privs'],
    '--',
    ...command,
  ];
}

function limitFlags({ addressSpaceBytes, cpuSeconds, fileSizeBytes }: ResourceLimits): string[] {
  return [
    ...(addressSpaceBytes === undefined ? [] : [`--as=${addressSpaceBytes}`]),
    ...(cpuSeconds === undefined ? [] : [`--cpu=${cpuSeconds}`]),
    ...(fileSizeBytes === undefined ? [] : [`--fsize=${fileSizeBytes}`]),
  ];
}

/**
 * The command line of what is to end with us, however we end: the kernel kills it then, and where we were gone before the
 * kernel was told so, it does not begin. Its place is within the cage, since a change of user takes the order back.
 *
 * @see PR_SET_PDEATHSIG, prctl(2)
 */
export function endingWithUs(command: readonly string[]): string[] {
  const begin = ['sh', '-c', '[ "$PPID" = "$0" ] && exec "$@"', String(process.pid)];
  return ['setpriv', '--pdeathsig=KILL', '--', ...begin, ...command];
}
