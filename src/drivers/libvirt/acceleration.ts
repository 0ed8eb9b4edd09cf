/**
 * Finds out whether KVM really runs guests here.
 *
 * Theory of operation: a device node and a line in libvirt's capabilities prove nothing; there are hosts with both
 * on which no kernel boots. So a throw-away machine is started, whose firmware is PROBE_CODE: it does what a kernel
 * does first (protected mode, paging, long mode, model-specific registers, the local APIC's timer, an interrupt
 * that ends a halt) and then tells QEMU to exit with a code of its own. The same code runs under TCG, which proves
 * the code itself.
 *
 *   no /dev/kvm ──► absent         /dev/kvm, probe exits with OK ──► kvm         anything else ──► kvm-unusable
 *
 * Promise: it ends within PROBE_TIMEOUT_MS, leaves no process and no file, and touches no guest.
 */
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { Acceleration } from '../../model/node.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { type Exec, ProcessError } from '../host/exec.ts';

export interface AccelerationVerdict {
  acceleration: Acceleration;
  /** One sentence without its full stop. */
  reason: string;
}

export interface AccelerationProbe {
  exec: Exec;
  /** Absolute path of the emulator. */
  emulator: string;
  /** Whether libvirt's capabilities offer KVM for this emulator. */
  isListed: boolean;
  /** @default '/dev/kvm' */
  devicePath?: string;
}

/** The probe takes 0.1 s under TCG on a slow machine; one that takes this long hangs. Milliseconds. */
const PROBE_TIMEOUT_MS = 5_000;
/** Memory of the probe's machine, MiB; the code uses the first 64 KiB. */
const PROBE_MEMORY_MIB = 16;
/** A firmware image is a whole number of these, and ends at 4 GiB. Bytes. @see QEMU, hw/i386/x86.c, x86_bios_rom_init */
const ROM_BYTES = 65_536;
/** Where the code begins: 512 bytes before the end, 0xFFE00 in the copy below 1 MiB. */
const CODE_OFFSET = ROM_BYTES - 512;
/** Where the CPU begins: 16 bytes before the end. */
const RESET_OFFSET = ROM_BYTES - 16;
/** Port of the device that ends QEMU, and the value the code writes there. */
const EXIT_PORT = '0xf4';
const EXIT_VALUE = 0x10;
/** The device makes an exit code of the value. @see QEMU, hw/misc/debugexit.c */
const EXIT_CODE_OK = (EXIT_VALUE << 1) | 1;

/** ljmp 0xf000:0xfe00 */
const RESET_CODE = 'ea00fe00f0';

/** Machine code, linked at 0xFFE00; page tables are at 0x1000, 0x2000, 0x3000 and 0x5000, the IDT at 0x4000. */
const PROBE_CODE = [
  'fa fc 31c0 8ed8', // cli; cld; ds = 0
  '66c70600100320 0000', // PML4[0] = 0x2000, present and writable
  '66c70600200330 0000', // PDPT[0] = 0x3000
  '66c70600308300 0000', // PD[0]: 2 MiB page at 0
  '66c70618200350 0000', // PDPT[3] = 0x5000
  '66c706b85f9b00e0fe', // its entry 503: 2 MiB page at 0xFEE00000, uncached, for the local APIC
  '2e660f0116f0fe', // lgdt
  '0f20e0 6683c820 0f22e0', // CR4.PAE
  '66b800100000 0f22d8', // CR3 = 0x1000
  '66b9800000c0 0f32 660d00010000 0f30', // EFER.LME, by rdmsr and wrmsr
  '0f20c0 660d01000080 0f22c0', // CR0.PG and CR0.PE
  '66ea71fe0f000800', // ljmp to the 64-bit segment, at 0xFFE71
  'b810000000 8ed8 8ed0 bc00800000', // ds = ss = data segment; esp = 0x8000
  'c7042500420000 cefe0800', // IDT[0x20]: the handler at 0xFFECE
  'c7042504420000 008e0f00',
  '0f011c25f6fe0f00', // lidt
  'bb0000e0fe', // ebx = the local APIC
  'c783f0000000 ff010000', // enabled, spurious vector 0xFF
  'c78320030000 20000000', // timer: once, vector 0x20
  'c783e0030000 0b000000', // divided by 1
  'c78380030000 00000100', // initial count 65536
  'fb f4 ebfd', // sti; hlt, for ever
  'b010 e6f4 f4 ebfd', // the handler: out EXIT_VALUE to EXIT_PORT; hlt, for ever
  '000000', // padding to a multiple of 8
  '0000000000000000', // GDT: null
  '00000000009a2000', // 64-bit code
  '0000000000920000', // data
  '1700 d8fe0f00', // GDT pointer
  '0f02 0040000000000000', // IDT pointer
];

/**
 * @throws {AgentError} CANCELLED: by the caller. UNSUPPORTED: no emulator. UNAVAILABLE: the probe could not be made.
 */
export async function probeAcceleration(
  probe: AccelerationProbe,
  options: CallOptions = {},
): Promise<AccelerationVerdict> {
  const devicePath = probe.devicePath ?? '/dev/kvm';
  if (!(await exists(devicePath))) return { acceleration: 'absent', reason: `there is no ${devicePath}` };
  if (!probe.isListed) return unusable(`${devicePath} is there, but libvirt does not offer KVM`);
  const reason = await runProbe(probe, 'kvm', options);
  if (reason !== null) return unusable(`${devicePath} is there, but a probe guest did not run: ${reason}`);
  return { acceleration: 'kvm', reason: 'a probe guest ran under KVM' };
}

/**
 * Runs the probe's machine.
 *
 * @returns null when it ran to its end, or why not.
 */
export async function runProbe(
  { exec, emulator }: Pick<AccelerationProbe, 'exec' | 'emulator'>,
  accelerator: 'kvm' | 'tcg',
  options: CallOptions = {},
): Promise<string | null> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-probe-'));
  try {
    const romPath = join(folder, 'probe.rom');
    await writeFile(romPath, probeRom());
    return await verdictOf(exec, emulator, machineArguments(accelerator, romPath), options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function verdictOf(
  exec: Exec,
  emulator: string,
  args: readonly string[],
  options: CallOptions,
): Promise<string | null> {
  try {
    await exec.run(emulator, args, { timeoutMs: PROBE_TIMEOUT_MS, ...options, okCodes: [EXIT_CODE_OK] });
    return null;
  } catch (error) {
    if (error instanceof ProcessError) return error.message;
    if (error instanceof AgentError && error.code === 'DEADLINE_EXCEEDED') return error.message;
    throw error;
  }
}

function machineArguments(accelerator: 'kvm' | 'tcg', romPath: string): string[] {
  return [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
    ...['-machine', `q35,accel=${accelerator}`, '-cpu', accelerator === 'kvm' ? 'host' : 'qemu64'],
    ...['-m', String(PROBE_MEMORY_MIB), '-bios', romPath],
    ...['-device', `isa-debug-exit,iobase=${EXIT_PORT},iosize=4`],
  ];
}

function probeRom(): Buffer {
  const rom = Buffer.alloc(ROM_BYTES);
  rom.write(PROBE_CODE.join('').replaceAll(' ', ''), CODE_OFFSET, 'hex');
  rom.write(RESET_CODE, RESET_OFFSET, 'hex');
  return rom;
}

function unusable(reason: string): AccelerationVerdict {
  return { acceleration: 'kvm-unusable', reason };
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw new AgentError('UNAVAILABLE', `Cannot look for ${path}`, { cause: error });
  }
}
