/**
 * LinuxHost: the facts of a Linux machine, and what is wrong with it.
 *
 * Capacity comes from the kernel's own files; systeminformation gives the names for people (CPU model,
 * operating system) and a second figure to compare the memory with. It runs programs of its own and takes up
 * to a second, so `facts` is for the start and for a caller that asks, never for a loop.
 */
import { access } from 'node:fs/promises';
import { hostname, machine, release } from 'node:os';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import type { CallOptions } from '../contracts/calls.ts';
import { type Clock, systemClock } from '../contracts/clock.ts';
import type { Host, HostFacts, HostLoad, HostResources } from '../contracts/host.ts';
import { CallLimit } from './call-limit.ts';
import { traitsOfFlags } from './cpu-traits.ts';
import { examineHost } from './examine.ts';
import { examinePoolWay } from './examine-pool-way.ts';
import type { Exec } from './exec.ts';
import { optionalFile, readKernelFile } from './kernel-files.ts';
import { countCpus, cpuFlags, cpuModelName, memTotalMib } from './kernel-text.ts';
import { readLoad } from './load.ts';
import { readResources } from './resources.ts';

/** systeminformation takes about a second on a busy machine. Milliseconds. */
const FACTS_TIMEOUT_MS = 20_000;
/** A dozen looks and a few small programs. Milliseconds. */
const EXAMINE_TIMEOUT_MS = 30_000;
/** One small file. Milliseconds. */
const BOOT_ID_TIMEOUT_MS = 5_000;
/** Some ten small files for each NUMA node. Milliseconds. */
const RESOURCES_TIMEOUT_MS = 5_000;
/** systemd answers in milliseconds; while it is busy with going down, later. */
const STOPPING_TIMEOUT_MS = 10_000;
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';
/** There where systemd is the machine's init. @see sd_booted(3) */
const SYSTEMD_FOLDER = '/run/systemd/system';
const MIB = 1024 * 1024;

/** @see systemctl(1), is-system-running; `unknown` and `offline` are no answers */
const SYSTEM_STATES: ReadonlySet<string> = new Set([
  'initializing',
  'starting',
  'running',
  'degraded',
  'maintenance',
  'stopping',
]);

export interface LinuxHostParts {
  exec: Exec;
  clock?: Clock;
  /** The folder that QEMU's user has to reach; null leaves that check out. @default null */
  poolPath?: string | null;
  /** QEMU's user. @default what /etc/libvirt/qemu.conf says, else libvirt's own choice */
  qemuUser?: string;
  /** Folder whose presence says that systemd is the init. @default '/run/systemd/system' */
  systemdFolder?: string;
  /** What is before /sys and /proc when resources are read. @default '' */
  root?: string;
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

  /** @throws {AgentError} UNAVAILABLE: the kernel's files cannot be read. DEADLINE_EXCEEDED, CANCELLED. */
  async resources(options: CallOptions = {}): Promise<HostResources> {
    using limit = new CallLimit('Tell what the host has', options, RESOURCES_TIMEOUT_MS);
    limit.check();
    return readResources(this.#parts.root ?? '');
  }

  /** @throws {AgentError} UNAVAILABLE: the kernel's files cannot be read. DEADLINE_EXCEEDED, CANCELLED. */
  async load(options: CallOptions = {}): Promise<HostLoad> {
    using limit = new CallLimit('Tell what the host uses', options, RESOURCES_TIMEOUT_MS);
    limit.check();
    return readLoad(this.#parts.root ?? '');
  }

  /** @throws {AgentError} UNAVAILABLE: the kernel's file cannot be read. DEADLINE_EXCEEDED, CANCELLED. */
  async bootId(options: CallOptions = {}): Promise<string> {
    using limit = new CallLimit('Tell the boot of the host', options, BOOT_ID_TIMEOUT_MS);
    return (await limit.race(readKernelFile(BOOT_ID_FILE))).trim();
  }

  /**
   * As systemd says; under another init it is not known to go down.
   *
   * @throws {AgentError} UNAVAILABLE: systemd does not answer. DEADLINE_EXCEEDED, CANCELLED.
   */
  async isStopping(options: CallOptions = {}): Promise<boolean> {
    using limit = new CallLimit('Tell whether the host goes down', options, STOPPING_TIMEOUT_MS);
    const { exec, systemdFolder = SYSTEMD_FOLDER } = this.#parts;
    if (!(await limit.race(isThere(systemdFolder)))) return false;
    return (await systemState(exec, limit)) === 'stopping';
  }

  /** @throws {AgentError} UNAVAILABLE: it cannot be tried. DEADLINE_EXCEEDED, CANCELLED. */
  async examineWay(
    { check, path }: { check: string; path: string },
    options: CallOptions = {},
  ): Promise<Finding | null> {
    using limit = new CallLimit(`Try the way to ${path}`, options, EXAMINE_TIMEOUT_MS);
    const { exec, qemuUser = null } = this.#parts;
    return await limit.race(examinePoolWay(check, { exec, poolPath: path, qemuUser, limit }));
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
  const smt = optionalFile('/sys/devices/system/cpu/smt/active');
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
    traits: [
      ...traitsOfFlags(cpuFlags(cpuinfo)),
      ...(smt?.trim() === '1' ? ['HW_CPU_HYPERTHREADING'] : []),
    ].toSorted(),
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

/** @see systemctl(1), is-system-running: one word, and 0 for `running` alone */
async function systemState(exec: Exec, { signal }: CallLimit): Promise<string> {
  const okCodes = [0, 1];
  const { stdout } = await exec
    .run('systemctl', ['is-system-running'], { signal, okCodes })
    .catch((cause: unknown) => {
      signal.throwIfAborted();
      throw new AgentError('UNAVAILABLE', 'Cannot ask systemd whether the host goes down', { cause });
    });
  const state = stdout.trim();
  if (SYSTEM_STATES.has(state)) return state;
  throw new AgentError('UNAVAILABLE', `systemd does not say how the host is, but: ${state || 'nothing'}`);
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
