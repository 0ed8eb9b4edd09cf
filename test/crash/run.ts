/**
 * Starts laboratories, each where it can do no harm.
 *
 * The real one runs on a private host: its own processes, mounts, network and libvirtd, all of which end with it.
 * The simulated one runs in its own processes and mounts where it may have them, for the sake of its small disk.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { hostMissing, PrivateHost } from '../../packages/node-libvirt/test/support/private-host.ts';
import type { CaseReport, Choice, Observer } from './laboratory.ts';
import { cannotMount } from './stands/disk.ts';
import type { DriverName } from './stands/stand.ts';

const INSIDE = join(import.meta.dirname, 'inside.ts');
/** What the real stand is made of. */
const TOOLS = [
  'libvirtd',
  'virsh',
  'qemu-img',
  'qemu-system-x86_64',
  'nft',
  'dnsmasq',
  'mkfs.ext4',
  'genisoimage',
];
const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin'];
/** In memory, and gone with the private host. */
const INSIDE_FOLDER = '/run/crash';
const NAMESPACES = ['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc', '--kill-child'];

/** Why a laboratory can't run here; false when it can. */
export function cannotRun(driver: DriverName): string | false {
  if (driver === 'sim') return false;
  const missing = TOOLS.find((tool) => !FOLDERS.some((folder) => existsSync(join(folder, tool))));
  return hostMissing() || (missing === undefined ? false : `needs ${missing}`);
}

/** Runs one. @throws {Error} it broke before its end, with what it said last */
export async function runInside(driver: DriverName, choice: Choice, observer: Observer): Promise<void> {
  if (driver === 'sim') return runSim(choice, observer);
  const ends: (() => unknown)[] = [];
  const scope = { teardown: (end: () => unknown) => ends.push(end), passing: () => true, comment: () => 0 };
  try {
    const host = await PrivateHost.create(scope, { network: 'own' });
    const [program, args] = host.inside(programFor('libvirt', choice, INSIDE_FOLDER));
    await follow(start(program, args), observer);
  } finally {
    for (const end of ends) await end();
  }
}

async function runSim(choice: Choice, observer: Observer): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-crash-'));
  try {
    const argv = programFor('sim', choice, folder);
    const [program = '', ...args] = cannotMount() === false ? ['unshare', ...NAMESPACES, ...argv] : argv;
    await follow(start(program, args), observer);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function programFor(driver: DriverName, choice: Choice, folder: string): string[] {
  return [process.execPath, '--conditions=berth-source', INSIDE, driver, JSON.stringify(choice), folder];
}

function start(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
}

type Line = {
  report?: CaseReport;
  skip?: { what: string; reason: string };
  broken?: { reason: string; log: string };
};

async function follow(child: ChildProcess, observer: Observer): Promise<void> {
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let broken: string | null = null;
  for await (const text of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const line = JSON.parse(text) as Line;
    if (line.report !== undefined) observer.onCase(line.report);
    if (line.skip !== undefined) observer.onSkip(line.skip.what, line.skip.reason);
    if (line.broken !== undefined) broken = `${line.broken.reason}\n${line.broken.log}`;
  }
  await ended;
  if (broken !== null) throw new Error(broken);
  if (child.exitCode !== 0)
    throw new Error(`the laboratory ended with ${child.signalCode ?? child.exitCode}`);
}
