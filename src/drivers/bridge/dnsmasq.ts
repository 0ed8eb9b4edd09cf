/**
 * The dnsmasq process of a network.
 *
 * It outlives the agent: where systemd is the service manager it runs in a unit of its own, elsewhere it
 * leaves its parent by itself. It is known again by its command line, which names the network's own
 * configuration file; a process id from a file is never believed without that.
 *
 * Theory of operation: the process is stopped before its configuration changes or its bridge is made anew
 * (its sockets are bound to the old one), and started after; so whenever it runs, it runs with what is on disk.
 */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { AgentError } from '../../model/errors.ts';
import { ProcessError } from '../host/exec.ts';
import type { HostCall } from './host-call.ts';
import { type NetworkFiles, networkIdOfConfig, networkIdOfUnit, UNIT_PREFIX, unitName } from './names.ts';

export type ServiceManager = 'systemd' | 'none';

/** Milliseconds that dnsmasq has to end after SIGTERM; it needs about 5. Then it is killed. */
const END_TIMEOUT_MS = 5_000;
/** Milliseconds between two looks at a process that ends. */
const END_POLL_MS = 10;
/** Processes that are looked at in one stretch, in about 1 ms, before others get their turn. */
const SCAN_STRETCH = 64;
/** With the path behind it, how a network's dnsmasq is known again. */
const CONFIG_ARGUMENT = '--conf-file=';
/** Words with which systemctl answers for a unit that is not loaded. @see systemctl(1) */
const UNIT_NOT_LOADED = /not loaded/;
/** Code with which dnsmasq says that its address or port is taken. @see dnsmasq(8), EXIT CODES */
const EXIT_NETWORK = 2;

export interface DnsmasqOptions {
  networkId: string;
  files: NetworkFiles;
  serviceManager: ServiceManager;
}

/** The program and arguments that start the network's dnsmasq. Pure. */
export function startCommand({ networkId, files, serviceManager }: DnsmasqOptions): string[] {
  const command = ['dnsmasq', configArgument(files)];
  if (serviceManager === 'none') return command;
  const properties = ['Type=forking', `PIDFile=${files.pid}`, 'ProtectHome=yes', 'ProtectSystem=full'];
  return [
    'systemd-run',
    '--quiet',
    '--collect',
    `--unit=${unitName(networkId)}`,
    `--description=DHCP and DNS of Berth network ${networkId}`,
    ...properties.map((property) => `--property=${property}`),
    '--',
    ...command,
  ];
}

/** Starts it; answers once it listens. @throws {AgentError} HOST_CONFLICT: its port is taken. */
export async function startDnsmasq(call: HostCall, options: DnsmasqOptions): Promise<void> {
  const [program = '', ...args] = startCommand(options);
  try {
    await call.run(program, args);
  } catch (thrown) {
    const cause = thrown instanceof AgentError ? thrown.cause : undefined;
    if (!(cause instanceof ProcessError) || cause.exitCode !== EXIT_NETWORK) throw thrown;
    throw new AgentError('HOST_CONFLICT', 'Cannot start dnsmasq on the address of the bridge', {
      cause,
      hint: 'Look with `ss -lunp` for another server on port 53 or 67 that takes every address.',
    });
  }
}

/** Ends it, and answers once it is gone; one that does not run is done. */
export async function stopDnsmasq(call: HostCall, options: DnsmasqOptions): Promise<void> {
  if (options.serviceManager === 'systemd') {
    await call.look('systemctl', ['stop', unitName(options.networkId)], UNIT_NOT_LOADED);
  }
  for (const pid of await call.guard(() => scanForDnsmasq(options.files))) {
    await call.guard(() => endProcess(call, options.files, pid));
  }
}

/** Makes it read its hosts folder again; without one there is nothing to do. */
export async function reloadDnsmasq(call: HostCall, files: NetworkFiles): Promise<void> {
  const pid = await findDnsmasq(call, files);
  if (pid !== null) signal(pid, 'SIGHUP');
}

/** Its process id, or null when it does not run. */
export async function findDnsmasq(call: HostCall, files: NetworkFiles): Promise<number | null> {
  return call.guard(async () => {
    const noted = Number(await readIfThere(files.pid));
    if (Number.isSafeInteger(noted) && noted > 1 && (await isDnsmasq(files, noted))) return noted;
    return (await scanForDnsmasq(files))[0] ?? null;
  });
}

/** The configuration files, of the form of ours, that dnsmasq processes of the host run with, whoever started them. */
export async function listConfigs(call: HostCall): Promise<string[]> {
  return call.guard(async () => {
    const configs = new Set<string>();
    for (const pid of await scan(async (pid) => programName(pid) === 'dnsmasq')) {
      for (const argument of await argumentsOf(pid)) {
        if (argument.startsWith(CONFIG_ARGUMENT)) configs.add(argument.slice(CONFIG_ARGUMENT.length));
      }
    }
    return [...configs].filter((path) => networkIdOfConfig(path) !== null).sort();
  });
}

/** Units of networks that systemd knows, of whatever state. */
export async function listUnits(call: HostCall): Promise<string[]> {
  const args = ['list-units', '--all', '--plain', '--no-legend', '--no-pager', `${UNIT_PREFIX}*`];
  const lines = (await call.run('systemctl', args)).split('\n');
  return lines
    .map((line) => line.trim().split(' ')[0] ?? '')
    .filter((unit) => networkIdOfUnit(unit) !== null);
}

/** Ends a unit, and lets systemd forget that it failed; one that is not there is done. */
export async function removeUnit(call: HostCall, unit: string): Promise<void> {
  await call.look('systemctl', ['stop', unit], UNIT_NOT_LOADED);
  await call.look('systemctl', ['reset-failed', unit], UNIT_NOT_LOADED);
}

/** The file's text, or an empty one where there is no file. */
export async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (isGone(thrown)) return '';
    throw thrown;
  }
}

/** Looks at every process: the file with the process id can be lost, and the process not. */
async function scanForDnsmasq(files: NetworkFiles): Promise<number[]> {
  return scan((pid) => isDnsmasq(files, pid));
}

async function scan(matches: (pid: number) => Promise<boolean>): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const found: number[] = [];
  for (const [index, pid] of pids.entries()) {
    if (index % SCAN_STRETCH === 0) await nextTurn();
    if (await matches(pid)) found.push(pid);
  }
  return found;
}

/** A zombie has no command line, so it counts as gone. */
async function isDnsmasq(files: NetworkFiles, pid: number): Promise<boolean> {
  if (programName(pid) !== 'dnsmasq') return false;
  return (await argumentsOf(pid)).includes(configArgument(files));
}

async function argumentsOf(pid: number): Promise<string[]> {
  return (await readIfThere(`/proc/${pid}/cmdline`)).split('\0').slice(1);
}

/**
 * The name alone sorts out nearly every process. It is read synchronously, ten times as fast: unlike a
 * command line, whose reader waits for a lock that a process stuck in the kernel may hold, it is always at hand.
 */
function programName(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd();
  } catch (thrown) {
    if (isGone(thrown)) return '';
    throw thrown;
  }
}

async function endProcess(call: HostCall, files: NetworkFiles, pid: number): Promise<void> {
  const patienceMs = Math.min(END_TIMEOUT_MS, call.remainingMs());
  signal(pid, 'SIGTERM');
  if (await hasEndedWithin(files, pid, patienceMs)) return;
  signal(pid, 'SIGKILL');
  if (await hasEndedWithin(files, pid, call.remainingMs())) return;
  throw call.error('DEADLINE_EXCEEDED');
}

async function hasEndedWithin(files: NetworkFiles, pid: number, timeoutMs: number): Promise<boolean> {
  const looks = Math.ceil(timeoutMs / END_POLL_MS);
  for (let look = 0; look < looks; look++) {
    if (await hasEnded(files, pid)) return true;
    await delay(END_POLL_MS);
  }
  return false;
}

/**
 * Whether its sockets are closed, so that a next one can take its addresses. A process that ends loses its
 * command line first, its sockets later, and is a zombie, or not there, only after both.
 * @see do_exit() in kernel/exit.c of Linux
 */
async function hasEnded(files: NetworkFiles, pid: number): Promise<boolean> {
  if (programName(pid) !== 'dnsmasq') return true;
  if (/^State:\s+[ZX]/m.test(await readIfThere(`/proc/${pid}/status`))) return true;
  const args = await argumentsOf(pid);
  return args.length > 0 && !args.includes(configArgument(files));
}

/** One that ended by itself just now is done. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (thrown) {
    if (!isGone(thrown)) throw thrown;
  }
}

/** ENOENT: no such file. ESRCH: no such process, or it ended while its /proc entry was read. */
function isGone(thrown: unknown): boolean {
  const code = (thrown as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ESRCH';
}

function configArgument(files: NetworkFiles): string {
  return CONFIG_ARGUMENT + files.config;
}
