/**
 * Links, addresses and routes of the host, through `ip -json`, and the kernel's switches for them.
 *
 * The switches are read and written by cat and tee, which every host has, as programs of their own so that
 * they act in the same network namespace as `ip` does.
 */

import { overlap, parseRange, prefixLength } from '../../model/ipv4.ts';
import type { NetworkPlan } from '../contracts/network.ts';
import type { HostCall } from './host-call.ts';
import {
  bridgeAlias,
  bridgeHardwareAddress,
  bridgeName,
  isBridgeHardwareAddress,
  isBridgeName,
  isTapName,
  networkIdOfAlias,
} from './names.ts';
import { rangeOf } from './plans.ts';

/** What `ip -json -details address show` tells of a link; only what is used here. */
interface LinkJson {
  ifname: string;
  flags: string[];
  address?: string;
  ifalias?: string;
  linkinfo?: { info_kind?: string; info_data?: { type?: string } };
  master?: string;
  addr_info?: { family: string; local: string; prefixlen: number }[];
}

interface RouteJson {
  /** `unicast` where absent. */
  type?: string;
  dst: string;
  dev?: string;
  nexthops?: { dev?: string }[];
}

/** A link that bears the name of a bridge of ours. */
export interface BridgeLink {
  /** By either mark; what is not ours is never changed. */
  ours: boolean;
  /** It has its alias too; without, its maker was interrupted. */
  marked: boolean;
  up: boolean;
  hasAddress: boolean;
}

/** Routes that send nothing anywhere: an address range that they cover is not in use. */
const ROUTES_TO_NOWHERE = new Set(['blackhole', 'unreachable', 'prohibit', 'throw']);
/** A route to more than a /8 is a way out (the default, or a VPN's two halves of it), not a use. */
const USED_PREFIX_MIN = 8;

const NO_SUCH_DEVICE = /does not exist/;
/** The words of the program itself, not those of whatever starts it. */
const NO_SUCH_FILE = /^(cat|tee): .*No such file or directory/;

/** The link that has the bridge's name, or null for none. */
export async function findBridge(call: HostCall, plan: NetworkPlan): Promise<BridgeLink | null> {
  const args = ['-json', '-details', 'address', 'show', 'dev', plan.bridge];
  const output = await call.look('ip', args, NO_SUCH_DEVICE);
  const link = output === null ? undefined : parseLinks(output)[0];
  return link === undefined ? null : judgeLink(link, plan);
}

/** Every bridge of the host with its alias. */
export async function listBridges(call: HostCall): Promise<{ bridge: string; alias: string }[]> {
  const links = parseLinks(await call.run('ip', ['-json', 'link', 'show', 'type', 'bridge']));
  return links.map(({ ifname, ifalias }) => ({ bridge: ifname, alias: ifalias ?? '' }));
}

/** A bridge or a tap of the host that has a name of ours. */
export interface NamedLink {
  name: string;
  kind: 'bridge' | 'tap';
  /** By its marks; a tap has none but its name and its kind. */
  marked: boolean;
  /** The network in its alias; null where it has none. */
  networkId: string | null;
  hardwareAddress: string;
  /** Links that are plugged in. */
  plugged: string[];
  /** A tap's other end is open. */
  attached: boolean;
}

/** Every link of the host that has a name of ours. */
export async function listNamedLinks(call: HostCall): Promise<NamedLink[]> {
  const links = parseLinks(await call.run('ip', ['-json', '-details', 'link', 'show']));
  return links
    .filter(({ ifname }) => isBridgeName(ifname) || isTapName(ifname))
    .map((link) => namedLink(link, links));
}

/**
 * Processes that hold the other end of a tap, as far as they can be seen; empty where there is no such tap.
 *
 * Read as text: the JSON that iproute2 6.1 writes of taps with processes is none.
 */
export async function tapHolders(call: HostCall, tap: string): Promise<string[]> {
  return holdersIn(await call.run('ip', ['-details', 'tuntap', 'show']), tap);
}

/** @param text Of `ip -details tuntap show`: a line for each tap, and one for its processes. Pure. */
export function holdersIn(text: string, tap: string): string[] {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.startsWith(`${tap}: `));
  const [, processes = ''] =
    /^\s+Attached to processes:(.*)$/.exec(at < 0 ? '' : (lines[at + 1] ?? '')) ?? [];
  return [...processes.matchAll(/([^()]+)\((\d+)\)/g)].map(([, name = '', pid]) => `${name.trim()} (${pid})`);
}

/** Deletes a tap; one that is gone is done. */
export async function deleteTap(call: HostCall, tap: string): Promise<void> {
  await call.look('ip', ['link', 'delete', 'dev', tap], /Cannot find device/);
}

/** Devices that are plugged into the bridge. */
export async function pluggedDevices(call: HostCall, bridge: string): Promise<string[]> {
  return parseLinks(await call.run('ip', ['-json', 'link', 'show', 'master', bridge])).map(
    ({ ifname }) => ifname,
  );
}

/** Makes the bridge, down and marked. STP would keep a guest's port silent for 30 s, and there is no loop. */
export async function createBridge(call: HostCall, plan: NetworkPlan): Promise<void> {
  const bridgeOptions = ['type', 'bridge', 'stp_state', '0', 'forward_delay', '0'];
  const address = bridgeHardwareAddress(plan.id);
  await call.run('ip', ['link', 'add', 'name', plan.bridge, 'address', address, ...bridgeOptions]);
}

/** Gives the bridge its alias, its address and power; each is done where it is so already. */
export async function configureBridge(call: HostCall, plan: NetworkPlan): Promise<void> {
  await disableIpv6(call, plan.bridge);
  const address = `${plan.gatewayAddress}/${prefixLength(rangeOf(plan))}`;
  const commands = [
    `link set dev ${plan.bridge} alias ${bridgeAlias(plan.id)}`,
    `address replace ${address} dev ${plan.bridge}`,
    `link set dev ${plan.bridge} up`,
  ];
  await call.run('ip', ['-batch', '-'], `${commands.join('\n')}\n`);
}

/** Deletes the bridge; one that is gone is done. */
export async function deleteBridge(call: HostCall, bridge: string): Promise<void> {
  await call.look('ip', ['link', 'delete', 'dev', bridge, 'type', 'bridge'], /Cannot find device/);
}

/** The device that already uses addresses of the network, with the addresses, or null. */
export async function findUse(
  call: HostCall,
  plan: NetworkPlan,
): Promise<{ device: string; addresses: string } | null> {
  const [routes, links] = await Promise.all([
    call.run('ip', ['-json', '-4', 'route', 'show', 'table', 'all']),
    call.run('ip', ['-json', '-4', 'address', 'show']),
  ]);
  const uses = [...addressUses(parseLinks(links)), ...routeUses(JSON.parse(routes) as RouteJson[])];
  const range = rangeOf(plan);
  const inTheWay = uses.find(({ device, addresses }) => {
    const used = parseRange(addresses);
    return device !== plan.bridge && used !== null && overlap(used, range);
  });
  return inTheWay ?? null;
}

/** Whether the host passes packets on. */
export async function forwardsIpv4(call: HostCall): Promise<boolean> {
  return (await readSwitch(call, 'ipv4/ip_forward')) === '1';
}

export async function enableForwarding(call: HostCall): Promise<void> {
  await call.run('tee', [switchPath('ipv4/ip_forward')], '1');
}

/** Whether the bridge is closed to IPv6; so it is too in a kernel without IPv6. */
export async function isIpv6Disabled(call: HostCall, bridge: string): Promise<boolean> {
  const value = await readSwitch(call, `ipv6/conf/${bridge}/disable_ipv6`);
  return value === null || value === '1';
}

/**
 * The network is IPv4 only: with IPv6 on, the host would take addresses and routes from any guest that
 * sends router advertisements, and answer guests on its link-local address.
 */
async function disableIpv6(call: HostCall, bridge: string): Promise<void> {
  await call.look('tee', [switchPath(`ipv6/conf/${bridge}/disable_ipv6`)], NO_SUCH_FILE, '1');
}

/** Null where the kernel has no such switch. */
async function readSwitch(call: HostCall, name: string): Promise<string | null> {
  const value = await call.look('cat', [switchPath(name)], NO_SUCH_FILE);
  return value === null ? null : value.trim();
}

function switchPath(name: string): string {
  return `/proc/sys/net/${name}`;
}

function namedLink(link: LinkJson, all: readonly LinkJson[]): NamedLink {
  const isBridge = isBridgeName(link.ifname);
  const networkId = networkIdOfAlias(link.ifalias ?? '');
  const address = link.address ?? '';
  const { info_kind: kind, info_data: data } = link.linkinfo ?? {};
  const aliased = networkId !== null && bridgeName(networkId) === link.ifname;
  const begun = link.ifalias === undefined && isBridgeHardwareAddress(address);
  return {
    name: link.ifname,
    kind: isBridge ? 'bridge' : 'tap',
    marked: isBridge ? kind === 'bridge' && (aliased || begun) : kind === 'tun' && data?.type === 'tap',
    networkId: isBridge ? networkId : null,
    hardwareAddress: address,
    plugged: all.filter(({ master }) => master === link.ifname).map(({ ifname }) => ifname),
    attached: link.flags.includes('LOWER_UP'),
  };
}

function judgeLink(link: LinkJson, plan: NetworkPlan): BridgeLink {
  const marked = link.ifalias === bridgeAlias(plan.id);
  const begun = link.ifalias === undefined && link.address === bridgeHardwareAddress(plan.id);
  const prefix = prefixLength(rangeOf(plan));
  return {
    ours: link.linkinfo?.info_kind === 'bridge' && (marked || begun),
    marked,
    up: link.flags.includes('UP'),
    hasAddress: (link.addr_info ?? []).some(
      ({ local, prefixlen }) => local === plan.gatewayAddress && prefixlen === prefix,
    ),
  };
}

function addressUses(links: LinkJson[]): { device: string; addresses: string }[] {
  return links.flatMap(({ ifname, addr_info = [] }) =>
    addr_info
      .filter(({ family }) => family === 'inet')
      .map(({ local, prefixlen }) => ({ device: ifname, addresses: `${local}/${prefixlen}` })),
  );
}

function routeUses(routes: RouteJson[]): { device: string; addresses: string }[] {
  return routes
    .filter(({ type, dst }) => !ROUTES_TO_NOWHERE.has(type ?? 'unicast') && isNarrow(dst))
    .map(({ dst, dev, nexthops }) => ({
      device: dev ?? nexthops?.find((hop) => hop.dev !== undefined)?.dev ?? 'a route',
      addresses: dst,
    }));
}

function isNarrow(destination: string): boolean {
  const range = parseRange(destination);
  return range !== null && prefixLength(range) >= USED_PREFIX_MIN;
}

/** iproute2 writes nothing at all, or an empty object for each link that its filter left out. */
function parseLinks(output: string): LinkJson[] {
  const links = JSON.parse(output === '' ? '[]' : output) as Partial<LinkJson>[];
  return links.filter((link): link is LinkJson => link.ifname !== undefined);
}
