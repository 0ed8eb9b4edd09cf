/** The processes of this pid namespace, sorted into those of the laboratory and those of the node. */
import { readdirSync, readFileSync } from 'node:fs';

export interface Process {
  pid: number;
  parentPid: number;
  name: string;
  command: string;
  /** In clock ticks since the boot of the machine; with the pid it tells a process from any other. */
  startedAt: string;
  /** Id of the guest that it runs; null for other programs. */
  guest: string | null;
  /** Id of the network that it serves. */
  network: string | null;
  /** Id of the share that it serves; of the two processes that do so together, the one that has started the other. */
  share: string | null;
  /** Part of the laboratory, and no work of the node's. */
  isOurs: boolean;
}

const QEMU = /^qemu-system/;
const GUEST_ID = / -uuid ([0-9a-f-]{36}) /;
const SHARE_ID = /source=[^ ,]*\/shares\/([0-9a-f-]{36})\b/;
const NETWORK_ID = /networks\/([0-9a-f-]{36})\//;
/** The keeper of the private host, the laboratory, its berthd, and the daemons that it starts itself. */
const OURS = /^bash --norc -euc|test\/crash\/|^(\/usr\/sbin\/)?(libvirtd|virtlogd)\b/;
/** Fields of /proc/PID/stat, counted from the one after the program's name. @see proc_pid_stat(5), ppid, starttime */
const PARENT = 1;
const STARTTIME = 19;

export function processesInside(): Process[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => describe(Number(pid)) ?? []);
  const servers = new Set(all.filter(({ share }) => share !== null).map(({ pid }) => pid));
  return all.filter(({ share, parentPid }) => share === null || !servers.has(parentPid));
}

/** Null for one that ends right now. A kernel thread or a zombie has no command line. */
function describe(pid: number): Process | null {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    if (command === '') return null;
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isQemu = QEMU.test(name);
    return {
      pid,
      parentPid: Number(fields[PARENT]),
      name,
      command,
      startedAt: fields[STARTTIME] as string,
      guest: isQemu ? (GUEST_ID.exec(command)?.[1] ?? null) : null,
      network: name === 'dnsmasq' ? (NETWORK_ID.exec(command)?.[1] ?? null) : null,
      share: name === 'virtiofsd' ? (SHARE_ID.exec(command)?.[1] ?? null) : null,
      isOurs: OURS.test(command),
    };
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}
