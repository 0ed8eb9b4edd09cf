/**
 * LinuxHost: the facts of a Linux machine, and what is wrong with it.
 *
 * Capacity comes from the kernel's own files; systeminformation gives the names for people (CPU model,
 * operating system) and a second figure to compare the memory with. It runs programs of its own and takes up
 * to a second, so `facts` is for the start and for a caller that asks, never for a loop.
 */
import { readFile } from 'node:fs/promises';
import { hostname, machine, release } from 'node:os';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { type Clock, systemClock } from '../contracts/clock.ts';
import type { Host, HostFacts } from '../contracts/host.ts';
import { CallLimit } from './call-limit.ts';
import { traitsOfFlags } from './cpu-traits.ts';
import { examineHost } from './examine.ts';
import type { Exec } from './exec.ts';
import { countCpus, cpuFlags, cpuModelName, memTotalMib } from './kernel-text.ts';

/** systeminformation takes about a second on a busy machine. Milliseconds. */
const FACTS_TIMEOUT_MS = 20_000;
/** A dozen looks and a few small programs. Milliseconds. */
const EXAMINE_TIMEOUT_MS = 30_000;
const MIB = 1024 * 1024;

export interface LinuxHostParts {
  exec: Exec;
  clock?: Clock;
  /** The folder that QEMU's user has to reach; null leaves that check out. @default null */
  poolPath?: string | null;
  /** QEMU's user. @default what /etc/libvirt/qemu.conf says, else libvirt's own choice */
  qemuUser?: string;
}

export class LinuxHost implements Host {
  readonly #parts: LinuxHostParts;

  constructor(parts: LinuxHostParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} UNAVAILABLE: the kernel's files cannot be read. DEADLINE_EXCEEDED, CANCELLED. */
  async facts(options: CallOptions = {}): Promise<HostFacts> {
    using limit = new CallLimit('Gather facts of the host', options, FACTS_TIMEOUT_MS);
    return await limit.race(gather());
  }

  /** Never fails because a check does: what cannot be looked at is a finding. */
  async examine(options: CallOptions = {}): Promise<Finding[]> {
    using limit = new CallLimit('Examine the host', options, EXAMINE_TIMEOUT_MS);
    const { exec, clock = systemClock, poolPath = null, qemuUser = null } = this.#parts;
    return await limit.race(examineHost({ exec, clock, poolPath, qemuUser, limit }));
  }
}

async function gather(): Promise<HostFacts> {
  const { default: systeminformation } = await loadSystemInformation();
  const [meminfo, cpuinfo, online, memory, system] = await Promise.all([
    readKernelFile('/proc/meminfo'),
    readKernelFile('/proc/cpuinfo'),
    readKernelFile('/sys/devices/system/cpu/online'),
    systeminformation.mem(),
    systeminformation.osInfo(),
  ]);
  return {
    hostname: hostname(),
    architecture: machine(),
    cpuModel: cpuModelName(cpuinfo) ?? (await cpuModelOfTables()),
    cpus: countCpus(online),
    operatingSystem: [system.distro, system.release, system.codename].filter((word) => word !== '').join(' '),
    kernel: release(),
    memoryMib: { procMeminfo: memTotalMib(meminfo), systeminformation: Math.floor(memory.total / MIB) },
    traits: traitsOfFlags(cpuFlags(cpuinfo)),
  };
}

/** Loaded when it is first needed: it starts a process as it loads, which would hold up the start of the agent. */
function loadSystemInformation() {
  return import('systeminformation');
}

/** Where the kernel has no name for it, as on Arm, the firmware's tables may. */
async function cpuModelOfTables(): Promise<string> {
  const { default: systeminformation } = await loadSystemInformation();
  const { manufacturer, brand } = await systeminformation.cpu();
  return `${manufacturer} ${brand}`.trim();
}

async function readKernelFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AgentError('UNAVAILABLE', `Cannot read ${path}`, { cause });
  }
}
