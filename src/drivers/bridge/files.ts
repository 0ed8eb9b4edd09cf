/**
 * The files of a network: its plan, the configuration of its dnsmasq, its ports' reservations and its leases.
 *
 * dnsmasq reads them as an unprivileged user, so they are readable by all; they hold names and addresses
 * only. Each is put in place whole, by a rename.
 */
import { chmod, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import type { NetworkPlan, PortPlan } from '../contracts/network.ts';
import { readIfThere } from './dnsmasq.ts';
import { hostLine, parseLeases } from './dnsmasq-config.ts';
import { isId, type NetworkFiles, networkFiles } from './names.ts';
import { checkNetwork } from './plans.ts';

const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;
/** A plan has some three hundred characters; what is longer is none. */
const PLAN_LENGTH_LIMIT = 4_096;
/** The bit that lets any user pass through a folder. */
const SEARCHABLE_BY_ALL = 0o001;

/** Makes the folders. @throws {AgentError} HOST_CONFLICT: dnsmasq's user cannot get through to them. */
export async function makeDirectories(files: NetworkFiles): Promise<void> {
  await mkdir(files.hosts, { recursive: true, mode: DIRECTORY_MODE });
  // The process may have a stricter umask.
  for (const path of [files.directory, files.hosts]) await chmod(path, DIRECTORY_MODE);
  const closed = await closedFolder(files.directory);
  if (closed === null) return;
  throw new AgentError('HOST_CONFLICT', `Folder ${closed} is closed to the user that dnsmasq runs as`, {
    hint: `Let all users pass: chmod o+x ${closed}`,
  });
}

export async function removeDirectories(files: NetworkFiles): Promise<void> {
  await rm(files.directory, { recursive: true, force: true });
}

/** `partial`: the network has a folder, but no place for reservations in it. */
export async function lookDirectories(files: NetworkFiles): Promise<'absent' | 'partial' | 'present'> {
  if (await exists(files.hosts)) return 'present';
  return (await exists(files.directory)) ? 'partial' : 'absent';
}

/** Ids of the networks that have a folder. */
export async function listDirectories(stateDir: string): Promise<string[]> {
  return (await exists(stateDir)) ? await readdir(stateDir) : [];
}

/** Keeps the plan with the network, so that it can be known again without a database. */
export async function writePlan(files: NetworkFiles, plan: NetworkPlan): Promise<void> {
  if (!(await hasPlan(files, plan))) await replaceFile(files, files.plan, planText(plan));
}

export async function hasPlan(files: NetworkFiles, plan: NetworkPlan): Promise<boolean> {
  return (await readIfThere(files.plan)) === planText(plan);
}

/** The plan that is kept there; null where there is none, or one that can't be taken for true. */
export async function readPlan(files: NetworkFiles, networkId: string): Promise<NetworkPlan | null> {
  const text = await readIfThere(files.plan);
  if (text === '' || text.length > PLAN_LENGTH_LIMIT) return null;
  try {
    const plan = JSON.parse(text) as NetworkPlan;
    checkNetwork(plan);
    return plan.id === networkId ? plan : null;
  } catch {
    return null;
  }
}

/** One text for equal plans, whatever the order of their keys. */
function planText({ id, name, bridge, cidr, gatewayAddress, nat, dhcp, dnsServers }: NetworkPlan): string {
  return `${JSON.stringify({ id, name, bridge, cidr, gatewayAddress, nat, dhcp, dnsServers })}\n`;
}

export async function readConfig(files: NetworkFiles): Promise<string> {
  return readIfThere(files.config);
}

export async function writeConfig(files: NetworkFiles, text: string): Promise<void> {
  await replaceFile(files, files.config, text);
}

export async function removeConfig(files: NetworkFiles): Promise<void> {
  await rm(files.config, { force: true });
}

export async function hasReservation(files: NetworkFiles, port: PortPlan): Promise<boolean> {
  return (await readIfThere(reservationPath(files, port))) === hostLine(port);
}

/** The networks that have a folder in `stateDir`, with the ports that have a reservation there. */
export async function listFolders(stateDir: string): Promise<{ networkId: string; portIds: string[] }[]> {
  const networkIds = (await namesIn(stateDir)).filter(isId);
  return Promise.all(
    networkIds.map(async (networkId) => ({
      networkId,
      portIds: (await namesIn(networkFiles(stateDir, networkId).hosts)).filter(isId),
    })),
  );
}

/** Writes the reservation. @returns Whether there was another one for this port before. */
export async function writeReservation(files: NetworkFiles, port: PortPlan): Promise<boolean> {
  const before = await readIfThere(reservationPath(files, port));
  await replaceFile(files, reservationPath(files, port), hostLine(port));
  return before !== '';
}

/** @returns Whether there was one. */
export async function removeReservation(files: NetworkFiles, port: Pick<PortPlan, 'id'>): Promise<boolean> {
  const before = await readIfThere(reservationPath(files, port));
  await rm(reservationPath(files, port), { force: true });
  return before !== '';
}

/** Whether another guest still has a lease on the port's address, so that dnsmasq would withhold it. */
export async function isLeasedToAnother(files: NetworkFiles, port: PortPlan): Promise<boolean> {
  return parseLeases(await readIfThere(files.leases)).some((lease) => isInTheWay(lease, port));
}

/** Takes leases of others on the port's address away; only while dnsmasq does not run, since it rewrites the file. */
export async function dropLeases(files: NetworkFiles, port: PortPlan): Promise<void> {
  const kept = parseLeases(await readIfThere(files.leases)).filter((lease) => !isInTheWay(lease, port));
  await replaceFile(files, files.leases, kept.map(({ line }) => `${line}\n`).join(''));
}

function isInTheWay(lease: { macAddress: string; ipAddress: string }, port: PortPlan): boolean {
  return lease.ipAddress === port.ipAddress && lease.macAddress !== port.macAddress;
}

/** In order; none where there is no such folder: a reboot takes them all. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw thrown;
  }
}

export function isPortName(name: string): boolean {
  return isId(name);
}

export function reservationPath(files: NetworkFiles, port: Pick<PortPlan, 'id'>): string {
  return join(files.hosts, port.id);
}

/** The new text is written beside the hosts folder, where dnsmasq does not look, and moved in; one at a time. */
async function replaceFile(files: NetworkFiles, path: string, text: string): Promise<void> {
  const draft = join(files.directory, 'draft');
  await writeFile(draft, text, { mode: FILE_MODE });
  await chmod(draft, FILE_MODE);
  await rename(draft, path);
}

/** The nearest folder from `path` upwards that others cannot pass, or null. */
async function closedFolder(path: string): Promise<string | null> {
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    if (((await stat(at)).mode & SEARCHABLE_BY_ALL) === 0) return at;
  }
  return null;
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw thrown;
  }
}
