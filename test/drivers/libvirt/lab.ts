/**
 * What the tests of the libvirt driver stand on: real guests of a real libvirtd, and their removal.
 *
 * Every guest, file and socket is named with NAME_PREFIX, lies in a folder of its own, and goes with the test.
 */
import { execFile } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { access, chmod, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Connection, connect, constants, LibvirtError } from 'node-libvirt';
import type { Test } from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { GuestDefinition, GuestDisk, Hypervisor } from '../../../src/drivers/contracts/hypervisor.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { createLibvirtHypervisor } from '../../../src/drivers/libvirt/index.ts';

export const NAME_PREFIX = 'glv-';
export const SYSTEM_SOCKET = '/run/libvirt/libvirt-sock';
export const TEST_IMAGE = fileURLToPath(new URL('../../../build/test-image.qcow2', import.meta.url));
const READ_ONLY_PROGRAM = fileURLToPath(new URL('../../../bin/berth-virtiofsd-readonly', import.meta.url));
/** What a condition is waited for, milliseconds: TCG on a busy machine takes tens of seconds to boot a kernel. */
export const PATIENCE_MS = 90_000;
/** Deadline of a whole test file with real guests, milliseconds; the runner's own is for tests without them. */
const FILE_TIMEOUT_MS = 600_000;
/** Within which a change that libvirt tells nobody of is noticed, milliseconds: a test waits for it. */
const SWEEP_ROUND_MS = 500;
/** Between two looks at a condition, milliseconds. */
const LOOK_MS = 25;
/** QEMU's user has to reach the disks. */
const FOLDER_MODE = 0o755;
/** libvirt keeps the log of each guest's QEMU, even of one that is no longer defined. */
const LOG_FOLDER = '/var/log/libvirt/qemu';
/** managed save, snapshots, NVRAM, checkpoints */
const UNDEFINE_ALL = 1 | 2 | 4 | 16;
/** @see VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP, libvirt-qemu.h */
const MONITOR_FOR_PEOPLE = 1;

const { VIR_DOMAIN_SHUTOFF: SHUTOFF } = constants.virDomainState;

const run = promisify(execFile);

/** Why these tests cannot run here, or false when they can. */
export async function whyNotHere(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!(await isThere(SYSTEM_SOCKET))) return 'no libvirtd is running on this machine';
  if (!(await isThere('/usr/bin/qemu-img'))) return 'qemu-img is not installed';
  return false;
}

/** Gives a test file with real guests the time that they take on a busy machine. */
export function takeTime(t: Test): void {
  t.setTimeout(FILE_TIMEOUT_MS);
  t.comment(`timeout=${FILE_TIMEOUT_MS}`); // the runner reads it: @tapjs/core, spawn.ts
}

export async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

export class Lab {
  readonly folder: string;
  readonly socketPath: string;
  /** The same libvirtd, seen without the driver. */
  readonly admin: Connection;
  readonly #ids: string[] = [];

  /** @param socketPath The daemon that the guests are of. */
  static async open(t: Test, socketPath: string = SYSTEM_SOCKET): Promise<Lab> {
    const folder = await mkdtemp(`/var/tmp/${NAME_PREFIX}`);
    await chmod(folder, FOLDER_MODE);
    const lab = new Lab(folder, socketPath, await connect('qemu:///system', { socketPath }));
    t.teardown(() => lab.#close());
    return lab;
  }

  private constructor(folder: string, socketPath: string, admin: Connection) {
    this.folder = folder;
    this.socketPath = socketPath;
    this.admin = admin;
  }

  /** A driver on the lab's daemon, closed with the test. @param socketPath Another way to the same daemon. */
  driver(t: Test, socketPath: string = this.socketPath): Hypervisor {
    // libvirt's QEMU driver keeps pid files beside its socket.
    return openDriver(t, socketPath, join(dirname(this.socketPath), 'qemu'));
  }

  /** A guest with an empty disk: its BIOS finds nothing to boot, and it runs until it is stopped. */
  async emptyGuest(changes: Partial<GuestDefinition> = {}): Promise<GuestDefinition> {
    const id = this.#newId();
    const path = await this.emptyDisk();
    const disk = { serial: 'root', path, format: 'raw', readOnly: false, backing: null } as const;
    return { ...definitionOf(id), disks: [disk], ...changes };
  }

  /** An empty raw disk, by its path. */
  async emptyDisk(): Promise<string> {
    const path = join(this.folder, `${randomUUID()}.raw`);
    await writeFile(path, '');
    await truncate(path, 1024 * 1024);
    return path;
  }

  /** A qcow2 file on what a disk has. */
  async overlayOn(disk: GuestDisk): Promise<GuestDisk> {
    const path = this.newPath('qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', disk.path, '-F', disk.format, path]);
    const { path: below, format, backing } = disk;
    return { ...disk, path, format: 'qcow2', backing: { path: below, format, backing } };
  }

  newPath(suffix: string): string {
    return join(this.folder, `${randomUUID()}.${suffix}`);
  }

  /** A folder for a guest to mount. */
  async emptyFolder(): Promise<string> {
    return mkdtemp(join(this.folder, 'share-'));
  }

  /** A qcow2 disk of 8 MiB on another one, which holds all of its data. */
  async layeredDisk() {
    const [base, path] = [
      join(this.folder, `${randomUUID()}.qcow2`),
      join(this.folder, `${randomUUID()}.qcow2`),
    ];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, '8M']);
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 8M', base]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path]);
    for (const each of [base, path]) await chmod(each, 0o666);
    return { path, format: 'qcow2', readOnly: false, backing: { path: base, format: 'qcow2' } } as const;
  }

  /** What a disk that a guest may use stands on, as its header says. */
  async backingOf(path: string): Promise<string | null> {
    const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', path]);
    return (JSON.parse(stdout) as { 'backing-filename'?: string })['backing-filename'] ?? null;
  }

  /** An empty qcow2 disk of 1 MiB, whose changes QEMU can keep. */
  async trackedDisk(): Promise<GuestDisk> {
    const path = this.newPath('qcow2');
    await this.makeEmpty(path);
    return { serial: randomUUID().slice(0, 8), path, format: 'qcow2', readOnly: false, backing: null };
  }

  /** A qcow2 file of 1 MiB, in place of one that is there. */
  async makeEmpty(path: string): Promise<void> {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
  }

  /** Writes to a disk of a running guest as the guest would. */
  scribble(id: string, serial: string): Promise<void> {
    return this.#write(id, serial, 'write');
  }

  /** The same in the way in which QEMU counts what guests do. @see aio_write_f, qemu-io-cmds.c */
  use(id: string, serial: string): Promise<void> {
    return this.#write(id, serial, 'aio_write');
  }

  async #write(id: string, serial: string, command: 'write' | 'aio_write'): Promise<void> {
    const text = await (await this.admin.domainLookupByUUIDString(id)).getXMLDesc();
    const disk = text.split('<disk ').find((each) => each.includes(`<serial>${serial}</serial>`)) ?? '';
    const alias = /<alias name='([^']+)'/.exec(disk)?.[1];
    const device = `/machine/peripheral/${alias}/virtio-backend`;
    const said = await this.monitor(id, `qemu-io -d ${device} "${command} -P ${randomInt(1, 255)} 128k 64k"`);
    if (/rror|onflict/.test(said)) throw new Error(said);
  }

  /** Ends a guest's QEMU as the kernel does that is out of memory. */
  async kill(id: string): Promise<void> {
    process.kill(await this.qemuPid(id), 'SIGKILL');
    const domain = await this.admin.domainLookupByUUIDString(id);
    await until('libvirt has seen it', async () => (await domain.getState(0)).state === SHUTOFF);
  }

  /** Edits a definition as `virsh edit` does. */
  async editDefinition(id: string, from: string | RegExp, to: string): Promise<void> {
    const domain = await this.admin.domainLookupByUUIDString(id);
    const text = await domain.getXMLDesc(constants.virDomainXMLFlags.VIR_DOMAIN_XML_INACTIVE);
    const edited = text.replace(from, to);
    if (edited === text) throw new Error(`nothing to edit in ${text}`);
    await this.admin.domainDefineXMLFlags(edited);
  }

  /** A guest that boots the test image, if the image has been built. */
  async bootingGuest(changes: Partial<GuestDefinition> = {}): Promise<GuestDefinition> {
    const id = this.#newId();
    const path = join(this.folder, `${id}.qcow2`);
    await run('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      await this.#baseImage(),
      '-F',
      'qcow2',
      path,
    ]);
    const backing = { path: await this.#baseImage(), format: 'qcow2' } as const;
    const disk = { serial: 'root', path, format: 'qcow2', readOnly: false, backing } as const;
    const consoleLogPath = join(this.folder, `${id}.log`);
    return { ...definitionOf(id), memoryMib: 256, disks: [disk], consoleLogPath, ...changes };
  }

  /** Starts a transient guest that the driver has not defined. */
  async foreignGuest(): Promise<{ id: string; name: string }> {
    const id = this.#newId();
    const name = foreignNameOf(id);
    await this.admin.domainCreateXML(
      `<domain type='qemu'><name>${name}</name><uuid>${id}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
       <os><type arch='x86_64' machine='q35'>hvm</type></os><devices><video><model type='vga'/></video></devices></domain>`,
    );
    return { id, name };
  }

  /** The process id of a running guest's QEMU. */
  async qemuPid(id: string): Promise<number> {
    const { stdout } = await run('pgrep', ['-f', `^/usr/bin/qemu-system-x86_64 .*-uuid ${id}`]);
    return Number(stdout.trim());
  }

  /** A command of QEMU's monitor for people; answers what it prints. */
  async monitor(id: string, command: string): Promise<string> {
    const dom = await this.admin.domainLookupByUUIDString(id);
    const { result } = await this.admin.call('qemuDomainMonitorCommand', {
      dom,
      cmd: command,
      flags: MONITOR_FOR_PEOPLE,
    });
    return result;
  }

  /** Removes a guest in whatever state it is. */
  async remove(id: string): Promise<void> {
    await unlessRefused(async () => (await this.admin.domainLookupByUUIDString(id)).destroyFlags());
    await unlessRefused(async () =>
      (await this.admin.domainLookupByUUIDString(id)).undefineFlags(UNDEFINE_ALL),
    );
  }

  #newId(): string {
    const id = randomUUID();
    this.#ids.push(id);
    return id;
  }

  /** A copy that QEMU's user can read, wherever the checkout lies. */
  async #baseImage(): Promise<string> {
    const path = join(this.folder, 'base.qcow2');
    if (!(await isThere(path))) await run('cp', ['--sparse=always', TEST_IMAGE, path]);
    await chmod(path, 0o444);
    return path;
  }

  async #close(): Promise<void> {
    for (const id of this.#ids) {
      await this.remove(id);
      for (const name of [nameOf(id), foreignNameOf(id)])
        await rm(join(LOG_FOLDER, `${name}.log`), { force: true });
    }
    await this.admin.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A driver on a daemon that may not be there, closed with the test. */
export function openDriver(t: Test, socketPath: string, runFolder?: string): Hypervisor {
  const hypervisor = createLibvirtHypervisor({
    socketPath,
    ...(runFolder !== undefined && { runFolder }),
    sweepRoundMs: SWEEP_ROUND_MS,
    clock: systemClock,
    exec: new HostExec(),
    readOnlyProgram: READ_ONLY_PROGRAM,
  });
  t.teardown(() => hypervisor.close());
  return hypervisor;
}

function nameOf(id: string): string {
  return `${NAME_PREFIX}${id.slice(0, 8)}`;
}

function foreignNameOf(id: string): string {
  return `${NAME_PREFIX}foreign-${id.slice(0, 8)}`;
}

function definitionOf(id: string): GuestDefinition {
  return {
    id,
    name: nameOf(id),
    vcpus: 1,
    memoryMib: 64,
    firmware: 'bios',
    disks: [],
    nics: [],
    consoleLogPath: null,
    metadata: '{"generation":1}',
  };
}

async function unlessRefused(action: () => Promise<unknown>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof LibvirtError)) throw error; // gone already, or not running
  }
}

export async function look(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}

/** Waits for a condition, and fails after PATIENCE_MS. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain for ${what}`);
    await look();
  }
}
