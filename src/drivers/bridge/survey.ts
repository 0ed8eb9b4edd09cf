/**
 * What is on the host of ours, thing by thing, and the removal of one thing that nothing owns any more.
 *
 * A survey asks the host for everything at once, and tells also what is there in part: a bridge whose maker was
 * interrupted before its alias, a table without its bridge, a dnsmasq whose files are gone. Others on this host may
 * have made things of the same form; so a removal is told whose thing it must be, and checks it against the thing's
 * own marks before it acts.
 */
import { AgentError } from '../../model/errors.ts';
import type { NetworkThing, NetworkThingName, ThingRemoval } from '../contracts/network.ts';
import * as dnsmasq from './dnsmasq.ts';
import * as files from './files.ts';
import type { HostCall } from './host-call.ts';
import * as links from './links.ts';
import {
  bridgeHardwareAddress,
  bridgeName,
  isTapName,
  networkFiles,
  networkIdOfConfig,
  networkIdOfTable,
  networkIdOfUnit,
  tableName,
  unitName,
} from './names.ts';
import { deleteTable, listTables } from './tables.ts';

/** The host's folder of networks, and who keeps dnsmasq running. */
export interface SurveyParts {
  stateDir: string;
  serviceManager: dnsmasq.ServiceManager;
}

/** All that may be made for a network; pure. */
export function namesOf({ stateDir, serviceManager }: SurveyParts, networkId: string): NetworkThingName[] {
  const { directory, config } = networkFiles(stateDir, networkId);
  const unit: NetworkThingName[] = [{ kind: 'dhcp-unit', name: unitName(networkId) }];
  return [
    { kind: 'bridge', name: bridgeName(networkId) },
    { kind: 'nft-table', name: tableName(networkId) },
    { kind: 'dhcp-folder', name: directory },
    { kind: 'dhcp-process', name: config },
    ...(serviceManager === 'systemd' ? unit : []),
  ];
}

export async function survey(call: HostCall, parts: SurveyParts): Promise<NetworkThing[]> {
  const [named, tables, configs, units, folders] = await Promise.all([
    links.listNamedLinks(call),
    listTables(call),
    dnsmasq.listConfigs(call),
    parts.serviceManager === 'systemd' ? dnsmasq.listUnits(call) : [],
    call.guard(() => files.listFolders(parts.stateDir)),
  ]);
  return [
    ...named.map(linkThing),
    ...tables.map((name) => markedThing('nft-table', name, networkIdOfTable(name))),
    ...configs.map((name) => markedThing('dhcp-process', name, networkIdOfConfig(name))),
    ...units.map((name) => markedThing('dhcp-unit', name, networkIdOfUnit(name))),
    ...folders.flatMap((folder) => folderThings(parts, folder, configs)),
  ];
}

/** @throws {AgentError} HOST_CONFLICT: not ours, or not of that network. ILLEGAL_STATE: in use. */
export async function removeThing(call: HostCall, parts: SurveyParts, thing: ThingRemoval): Promise<void> {
  if (thing.kind === 'tap') return removeTap(call, thing.name);
  const { networkId } = thing;
  if (networkId === null || !isOf(parts, networkId, thing)) throw notOurs(thing);
  switch (thing.kind) {
    case 'bridge':
      return removeBridge(call, thing, networkId);
    case 'nft-table':
      return deleteTable(call, networkId);
    case 'dhcp-process':
      return dnsmasq.stopDnsmasq(call, {
        networkId,
        files: networkFiles(parts.stateDir, networkId),
        ...parts,
      });
    case 'dhcp-unit':
      return dnsmasq.removeUnit(call, thing.name);
    case 'dhcp-folder':
      return removeFolder(call, parts, networkId);
    case 'dhcp-reservation':
      return removeReservation(call, parts, { networkId, path: thing.name });
  }
}

/** Whether a network's things have this name: the name of a bridge is not enough, its marks are looked at besides. */
function isOf(parts: SurveyParts, networkId: string, { kind, name }: ThingRemoval): boolean {
  if (kind === 'dhcp-reservation')
    return name.startsWith(`${networkFiles(parts.stateDir, networkId).hosts}/`);
  return namesOf({ ...parts, serviceManager: 'systemd' }, networkId).some(
    (own) => own.kind === kind && own.name === name,
  );
}

async function removeTap(call: HostCall, name: string): Promise<void> {
  if (!isTapName(name)) throw notOurs({ kind: 'tap', name });
  const tap = (await links.listNamedLinks(call)).find((link) => link.name === name);
  if (tap === undefined) return;
  if (!tap.marked) throw notOurs({ kind: 'tap', name });
  if (tap.attached) throw inUse({ kind: 'tap', name }, 'its other end is open');
  const holders = await links.tapHolders(call, name);
  if (holders.length > 0) throw inUse({ kind: 'tap', name }, `${holders.join(', ')} holds it`);
  await links.deleteTap(call, name);
}

async function removeBridge(call: HostCall, thing: ThingRemoval, networkId: string): Promise<void> {
  const bridge = (await links.listNamedLinks(call)).find(({ name }) => name === thing.name);
  if (bridge === undefined) return;
  if (!bridge.marked || !bearsMarkOf(bridge, networkId)) throw notOurs(thing);
  if (bridge.plugged.length > 0) throw inUse(thing, pluggedWords(bridge.plugged));
  await links.deleteBridge(call, thing.name);
}

function bearsMarkOf(bridge: links.NamedLink, networkId: string): boolean {
  if (bridge.networkId !== null) return bridge.networkId === networkId;
  return bridge.hardwareAddress === bridgeHardwareAddress(networkId);
}

async function removeFolder(call: HostCall, parts: SurveyParts, networkId: string): Promise<void> {
  const paths = networkFiles(parts.stateDir, networkId);
  if ((await dnsmasq.findDnsmasq(call, paths)) !== null) {
    throw inUse({ kind: 'dhcp-folder', name: paths.directory }, 'its dnsmasq runs');
  }
  await call.guard(() => files.removeDirectories(paths));
}

async function removeReservation(
  call: HostCall,
  { stateDir }: SurveyParts,
  { networkId, path }: { networkId: string; path: string },
): Promise<void> {
  const paths = networkFiles(stateDir, networkId);
  const id = path.slice(paths.hosts.length + 1);
  if (files.reservationPath(paths, { id }) !== path || !files.isPortName(id)) {
    throw notOurs({ kind: 'dhcp-reservation', name: path });
  }
  if (await call.guard(() => files.removeReservation(paths, { id })))
    await dnsmasq.reloadDnsmasq(call, paths);
}

function linkThing({ kind, name, networkId, marked, plugged, attached }: links.NamedLink): NetworkThing {
  const tapUse = attached ? 'its other end is open' : null;
  const bridgeUse = plugged.length > 0 ? pluggedWords(plugged) : null;
  return { kind, name, networkId, marked, inUse: kind === 'tap' ? tapUse : bridgeUse };
}

function markedThing(kind: NetworkThing['kind'], name: string, networkId: string | null): NetworkThing {
  return { kind, name, networkId, marked: true, inUse: null };
}

function folderThings(
  { stateDir }: SurveyParts,
  { networkId, portIds }: { networkId: string; portIds: string[] },
  configs: readonly string[],
): NetworkThing[] {
  const paths = networkFiles(stateDir, networkId);
  const inUse = configs.includes(paths.config) ? 'its dnsmasq runs' : null;
  return [
    { ...markedThing('dhcp-folder', paths.directory, networkId), inUse },
    ...portIds.map((id) => markedThing('dhcp-reservation', files.reservationPath(paths, { id }), networkId)),
  ];
}

function pluggedWords(devices: readonly string[]): string {
  return `plugged in: ${devices.join(', ')}`;
}

function notOurs({ kind, name }: NetworkThingName): AgentError {
  return new AgentError(
    'HOST_CONFLICT',
    `Cannot remove ${kind} ${name}: it does not bear the mark of its network`,
    {
      hint: 'Look at it on the host, and remove it by hand if nobody needs it.',
    },
  );
}

function inUse({ kind, name }: NetworkThingName, how: string): AgentError {
  return new AgentError('ILLEGAL_STATE', `Cannot remove ${kind} ${name}: ${how}`);
}
