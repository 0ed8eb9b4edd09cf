/**
 * A guest of the test image, run by QEMU itself under TCG: no libvirt, no network of the host, nothing left behind.
 *
 * Its disk is an overlay in a folder of its own; console, guest agent and QMP are read all the time, because a guest
 * whose console is not read stands still once the socket is full.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LineSocket } from './line-socket.ts';

export const IMAGE = join(import.meta.dirname, '..', '..', 'build', 'test-image.qcow2');
const OVMF_CODE = '/usr/share/OVMF/OVMF_CODE_4M.fd';
const OVMF_VARS = '/usr/share/OVMF/OVMF_VARS_4M.fd';

/** Size of the overlay: larger than the image, so that the guest has something to grow into. */
const DISK_MIB = 128;
const MEMORY_MIB = 192;

/** Bounds of waits, ms. A guest boots in 4 s on an idle core; a loaded machine may take ten times that. */
const WAIT_MS = 120_000;
const LOOK_MS = 50;

export type GuestOptions = {
  firmware: 'bios' | 'uefi';
  machine: 'pc' | 'q35';
  /** Files of the NoCloud seed by name, and the bus of its disk. */
  seed?: { files: Record<string, string>; bus: 'virtio-blk' | 'virtio-scsi' };
  nic: 'user' | 'none';
  video: 'vga' | 'none';
};

/** Why the image can't be tested here; false when it can. */
export function cannotRun(): string | false {
  for (const [command, reason] of [
    ['qemu-system-x86_64', 'no qemu-system-x86_64: run scripts/bootstrap runtime'],
    ['genisoimage', 'no genisoimage: run scripts/bootstrap runtime'],
  ] as const) {
    if (!onPath(command)) return reason;
  }
  return existsSync(IMAGE) ? false : 'no test image: run scripts/build-test-image';
}

/** Why UEFI can't be tested here; false when it can. */
export function cannotRunUefi(): string | false {
  return cannotRun() || (existsSync(OVMF_CODE) ? false : `no ${OVMF_CODE}: run scripts/bootstrap runtime`);
}

export class Guest implements AsyncDisposable {
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #console = '';
  #agent: LineSocket | null = null;

  constructor(options: GuestOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), 'berth-image-'));
    this.#process = spawn('qemu-system-x86_64', this.#args(options), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#ended = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.stdout?.on('data', (bytes: Buffer) => {
      this.#console += bytes.toString('latin1');
    });
  }

  /** All that the guest has written to its serial console. */
  get console(): string {
    return this.#console;
  }

  /** Waits until the console matches, and returns the match. @throws Error after 120 s, or when the guest has ended. */
  async consoleMatches(pattern: RegExp): Promise<RegExpExecArray> {
    for (const end = Date.now() + WAIT_MS; Date.now() < end; await delay(LOOK_MS)) {
      const match = pattern.exec(this.#console);
      if (match) return match;
      if (this.#process.exitCode !== null) break;
    }
    throw new Error(`the console never matched ${pattern}; it ends with: ${this.#console.slice(-2000)}`);
  }

  /** Asks the guest agent. @returns Its `return` value. */
  async ask(command: string, parameters: Record<string, unknown> = {}): Promise<unknown> {
    this.#agent ??= await this.#openAgent();
    return await this.#agent.ask({ execute: command, arguments: parameters }, WAIT_MS);
  }

  /** Runs a shell command in the guest. @returns Exit status and standard output. */
  async run(command: string): Promise<{ status: number; output: string }> {
    const started = await this.ask('guest-exec', {
      path: '/bin/sh',
      arg: ['-c', command],
      'capture-output': true,
    });
    for (const end = Date.now() + WAIT_MS; Date.now() < end; await delay(LOOK_MS)) {
      const state = (await this.ask('guest-exec-status', started as { pid: number })) as {
        exited: boolean;
        exitcode?: number;
        'out-data'?: string;
      };
      if (!state.exited) continue;
      return {
        status: state.exitcode ?? -1,
        output: Buffer.from(state['out-data'] ?? '', 'base64').toString(),
      };
    }
    throw new Error(`'${command}' did not end in the guest`);
  }

  /** Asks the guest to power off, through its agent or the power button, and waits until QEMU has ended. */
  async powerOff(options: { through: 'agent' | 'button' }): Promise<void> {
    if (options.through === 'agent') {
      this.#agent ??= await this.#openAgent();
      this.#agent.tell({ execute: 'guest-shutdown' });
    } else {
      await using qmp = await LineSocket.connect(join(this.#folder, 'qmp'), WAIT_MS);
      await qmp.ask({ execute: 'qmp_capabilities' }, WAIT_MS);
      await qmp.ask({ execute: 'system_powerdown' }, WAIT_MS);
    }
    const ended = await Promise.race([this.#ended.then(() => true), delay(WAIT_MS, false, { ref: false })]);
    if (!ended)
      throw new Error(`the guest does not power off; its console ends with: ${this.#console.slice(-2000)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.[Symbol.asyncDispose]();
    this.#process.kill('SIGKILL');
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** An agent that was not listening yet drops what it was sent, and answers the next; `guest-sync` shows that it listens. */
  async #openAgent(): Promise<LineSocket> {
    const agent = await LineSocket.connect(join(this.#folder, 'agent'), WAIT_MS);
    await agent.ask({ execute: 'guest-sync', arguments: { id: 1 } }, WAIT_MS);
    return agent;
  }

  #args(options: GuestOptions): string[] {
    const disk = join(this.#folder, 'disk.qcow2');
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'qcow2',
      '-b',
      IMAGE,
      disk,
      `${DISK_MIB}M`,
    ]);
    return [
      ...[
        '-machine',
        `${options.machine},accel=tcg`,
        '-m',
        String(MEMORY_MIB),
        '-nodefaults',
        '-display',
        'none',
      ],
      ...['-serial', 'stdio', '-qmp', `unix:${join(this.#folder, 'qmp')},server=on,wait=off`],
      ...['-drive', `file=${disk},if=none,id=disk0`, '-device', 'virtio-blk-pci,drive=disk0,bootindex=1'],
      ...['-chardev', `socket,id=agent0,path=${join(this.#folder, 'agent')},server=on,wait=off`],
      ...['-device', 'virtio-serial-pci'],
      ...['-device', 'virtserialport,chardev=agent0,name=org.qemu.guest_agent.0'],
      ...(options.video === 'vga' ? ['-vga', 'std'] : []),
      ...(options.nic === 'user' ? ['-netdev', 'user,id=net0', '-device', 'virtio-net-pci,netdev=net0'] : []),
      ...(options.firmware === 'uefi' ? this.#uefiArgs() : []),
      ...(options.seed ? this.#seedArgs(options.seed) : []),
    ];
  }

  #uefiArgs(): string[] {
    const vars = join(this.#folder, 'vars.fd');
    copyFileSync(OVMF_VARS, vars);
    return [
      ...['-drive', `if=pflash,format=raw,readonly=on,file=${OVMF_CODE}`],
      ...['-drive', `if=pflash,format=raw,file=${vars}`],
    ];
  }

  #seedArgs(seed: NonNullable<GuestOptions['seed']>): string[] {
    const names = Object.keys(seed.files);
    for (const name of names) writeFileSync(join(this.#folder, name), seed.files[name] ?? '');
    const options = { cwd: this.#folder };
    execFileSync('genisoimage', ['-quiet', '-o', 'seed.iso', '-V', 'cidata', '-J', '-r', ...names], options);
    const drive = `file=${join(this.#folder, 'seed.iso')},if=none,id=seed0,format=raw,readonly=on`;
    const device =
      seed.bus === 'virtio-blk'
        ? ['-device', 'virtio-blk-pci,drive=seed0']
        : ['-device', 'virtio-scsi-pci', '-device', 'scsi-cd,drive=seed0'];
    return ['-drive', drive, ...device];
  }
}

function onPath(command: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, command)));
}
