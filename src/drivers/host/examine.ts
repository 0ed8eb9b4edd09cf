/**
 * The doctor's look at the host alone: rights, tools, KVM, cgroups, clock, and the way to the pool.
 *
 * Each check looks for itself and answers with one finding; one that cannot look says so as a warning. What
 * can be tried is tried, rather than derived: QEMU's user really goes to the pool.
 */
import { constants } from 'node:fs';
import { stat } from 'node:fs/promises';
import { machine } from 'node:os';
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import type { CallLimit } from './call-limit.ts';
import { type ClockParts, examineClock } from './examine-clock.ts';
import { examinePoolWay, type PoolWayParts } from './examine-pool-way.ts';
import { SEARCH_PATH } from './exec.ts';
import { failure, may, ok, readIfThere, warning } from './findings.ts';

interface Tool {
  names: readonly string[];
  use: string;
  debian: string;
}

/** Programs that the drivers run, what for, and the Debian package of each; one of `names` is enough. */
const TOOLS: readonly Tool[] = [
  { names: ['qemu-img'], use: 'makes volumes and checks images', debian: 'qemu-utils' },
  { names: [`qemu-system-${machine()}`], use: 'runs the guests', debian: 'qemu-system' },
  { names: ['ip'], use: 'makes bridges', debian: 'iproute2' },
  { names: ['nft'], use: 'makes NAT and filter rules', debian: 'nftables' },
  { names: ['dnsmasq'], use: 'answers DHCP', debian: 'dnsmasq-base' },
  { names: ['genisoimage', 'xorriso'], use: 'makes seeds', debian: 'genisoimage' },
  { names: ['prlimit'], use: 'bounds the inspection of images', debian: 'util-linux' },
  { names: ['unshare'], use: 'keeps the inspection of images from the network', debian: 'util-linux' },
  { names: ['setpriv'], use: 'takes its rights from the inspection of images', debian: 'util-linux' },
];

/** Bits of a file's mode that let its group, or everybody, read and write. @see inode(7) */
const OTHERS_THAN_OWNER = 0o066;

export type ExamineParts = ClockParts & PoolWayParts;

interface Check {
  name: string;
  /** Null where there is nothing to say. */
  look: (name: string) => Finding | null | Promise<Finding | null>;
}

export async function examineHost(parts: ExamineParts): Promise<Finding[]> {
  const checks: Check[] = [
    { name: 'privileges', look: examinePrivileges },
    ...TOOLS.map((tool) => ({ name: toolCheck(tool), look: () => examineTool(tool) })),
    { name: 'kvm device', look: examineKvm },
    { name: 'nested virtualization', look: examineNesting },
    { name: 'cgroups', look: examineCgroups },
    { name: 'clock', look: (name) => examineClock(name, parts) },
    { name: 'way to the pool', look: (name) => examinePoolWay(name, parts) },
  ];
  const findings: Finding[] = [];
  for (const check of checks) findings.push(...(await runCheck(check, parts.limit)));
  return findings;
}

async function runCheck({ name, look }: Check, limit: CallLimit): Promise<Finding[]> {
  try {
    const finding = await look(name);
    return finding === null ? [] : [finding];
  } catch (error) {
    limit.check();
    return [warning(name, `It could not be looked at: ${AgentError.from(error).toBody().message}`, null)];
  }
}

function examinePrivileges(check: string): Finding {
  const uid = process.getuid?.();
  if (uid === 0) return ok(check, 'The agent runs as root.');
  return failure(
    check,
    `The agent runs as user ${uid}; bridges, rules and disks need root.`,
    'Run berthd as root; its systemd unit takes away what it does not need.',
  );
}

function toolCheck({ names }: Tool): string {
  return `tool ${names.join(' or ')}`;
}

async function examineTool(tool: Tool): Promise<Finding> {
  const { names, use, debian } = tool;
  for (const name of names) {
    const path = await findProgram(name);
    if (path !== null) return ok(toolCheck(tool), `${path} ${use}.`);
  }
  const message = `${names.join(' or ')} is not installed; it ${use}.`;
  return failure(toolCheck(tool), message, `Install it: apt-get install ${debian}`);
}

/** Absolute path of a program on the path that Exec uses; null where it is not installed. */
export async function findProgram(name: string): Promise<string | null> {
  for (const folder of SEARCH_PATH.split(':')) {
    const path = join(folder, name);
    if (await may(path, constants.X_OK)) return path;
  }
  return null;
}

/** The device alone: whether guests really run under it is the hypervisor's to prove. */
async function examineKvm(check: string): Promise<Finding> {
  if (await may('/dev/kvm', constants.R_OK | constants.W_OK))
    return judgeKvmMode(check, (await stat('/dev/kvm')).mode);
  if (await may('/dev/kvm', constants.F_OK)) {
    return warning(check, '/dev/kvm is there and may not be opened.', 'Give the agent access to /dev/kvm.');
  }
  return warning(
    check,
    '/dev/kvm is absent: guests are emulated, slowly.',
    'Enable VT-x or AMD-V in the firmware and load kvm_intel or kvm_amd; in a virtual machine, enable nesting.',
  );
}

/**
 * libvirt probes QEMU as root and then asks whether QEMU's user may open the device; where it may not, the answer is
 * never remembered, and each definition and start waits seconds for a new probe.
 */
export function judgeKvmMode(check: string, mode: number): Finding {
  if ((mode & OTHERS_THAN_OWNER) !== 0) return ok(check, '/dev/kvm can be opened.');
  return warning(
    check,
    "/dev/kvm is root's alone: QEMU's user cannot open it, and libvirt probes QEMU anew for each call.",
    "Give it to QEMU's group: chgrp kvm /dev/kvm && chmod 0660 /dev/kvm; a rule of udev does so at each boot.",
  );
}

/** Null where KVM is not loaded: then there is nothing to nest. */
async function examineNesting(check: string): Promise<Finding | null> {
  for (const name of ['kvm_intel', 'kvm_amd']) {
    const value = await readIfThere(`/sys/module/${name}/parameters/nested`);
    if (value === null) continue;
    const on = ['Y', '1'].includes(value.trim());
    return ok(check, `${name} ${on ? 'lets' : 'does not let'} guests run guests of their own.`);
  }
  return null;
}

async function examineCgroups(check: string): Promise<Finding> {
  if (await may('/sys/fs/cgroup/cgroup.controllers', constants.F_OK)) return ok(check, 'cgroup version 2.');
  if (await may('/sys/fs/cgroup/cpu', constants.F_OK)) return ok(check, 'cgroup version 1, or both.');
  return warning(
    check,
    'No cgroups are mounted: guests cannot be held to their shares.',
    'Mount cgroup2 on /sys/fs/cgroup, as systemd does.',
  );
}
