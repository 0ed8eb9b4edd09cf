/**
 * What tells a guest's QEMU process from every other one that the guest ever had.
 *
 * libvirt's id of a domain does not: once libvirt was restarted it gives ids again that it gave before, so a guest that
 * stopped and started while nobody looked may have its old one. The kernel does: the number of a process and the tick
 * it was started at, in one boot, are of one process alone.
 *
 * @see qemu_process.c, qemuProcessLaunch (the pid file); proc(5), /proc/pid/stat, field 22, and /proc/pid/status, VmRSS
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Of the kernel. @see random(4) */
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';
/** Place of the start time among the fields that follow the program's name, which may hold spaces. */
const START_TIME_AT = 19;
const KIB_PER_MIB = 1024;

export interface GuestProcess {
  /** Of this process alone, opaque. */
  process: string;
  /** Memory of the host that it has; null where the kernel does not say. */
  residentMib: number | null;
}

export class Processes {
  readonly #folder: string;
  #bootId: Promise<string> | null = null;

  /** @param folder Where libvirt's QEMU driver keeps pid files. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The process of a guest that runs; null where it can't be told. */
  async look(guestName: string): Promise<GuestProcess | null> {
    try {
      const pid = Number(await readFile(join(this.#folder, `${guestName}.pid`), 'latin1'));
      if (!Number.isSafeInteger(pid) || pid <= 0) return null;
      const status = await readFile(`/proc/${pid}/status`, 'latin1');
      const startedAt = startTimeIn(await readFile(`/proc/${pid}/stat`, 'latin1'));
      if (startedAt === null) return null;
      return { process: `${await this.#boot()}/${pid}/${startedAt}`, residentMib: residentMibIn(status) };
    } catch {
      // Without its file, or no longer there: a process that can't be told is as good as none.
      return null;
    }
  }

  #boot(): Promise<string> {
    this.#bootId ??= readFile(BOOT_ID_FILE, 'latin1').then((text) => text.trim());
    return this.#bootId;
  }
}

/** @param text Of /proc/<pid>/stat. @returns Clock ticks since the boot, as text; null for what is none. */
export function startTimeIn(text: string): string | null {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const startTime = fields[START_TIME_AT];
  return startTime !== undefined && /^\d+$/.test(startTime) ? startTime : null;
}

/** @param text Of /proc/<pid>/status. */
export function residentMibIn(text: string): number | null {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1];
  return kib === undefined ? null : Math.floor(Number(kib) / KIB_PER_MIB);
}
