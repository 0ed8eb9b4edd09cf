/**
 * Names and marks of what the bridge driver puts on a host. Pure.
 *
 * Every name follows from the id of the network or port, so that the journal can name a thing before it
 * exists, and an operator who sees `bb-0a1b2c3d4e5` finds the network whose id begins with 0a1b2c3d-4e5.
 *
 * A bridge bears two marks. Its hardware address is set by the very system call that makes it, so even a
 * crash at the next instant leaves a bridge that is known to be ours. Its alias (`ip link` shows it) holds
 * the whole id, but the kernel takes an alias only of a link that exists already.
 */
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Hexadecimal digits of the id in an interface name: 3 characters of prefix + 11 < IFNAMSIZ (16, with NUL). */
const NAME_DIGITS = 11;
/** Every bridge of Berth begins so: the rules that keep networks apart match this prefix. */
export const BRIDGE_PREFIX = 'bb-';
/** Not vnet, vif, macvtap or macvlan: names that libvirt takes for its own and erases from definitions. */
const TAP_PREFIX = 'bt-';
const ALIAS_PREFIX = 'berth:network:';
/** First byte of a bridge's hardware address: unicast, locally administered. */
const HARDWARE_PREFIX = '0a';
/** Bytes of the id's tail in a hardware address; the name holds the head. */
const HARDWARE_BYTES = 5;

/** What every bridge, tap and table of ours is named like. */
const BRIDGE_NAME = new RegExp(`^${BRIDGE_PREFIX}[0-9a-f]{${NAME_DIGITS}}$`);
const TAP_NAME = new RegExp(`^${TAP_PREFIX}[0-9a-f]{${NAME_DIGITS}}$`);
const TABLE_NAME = /^berth_([0-9a-f]{32})$/;
export const UNIT_PREFIX = 'berth-dhcp-';
const UNIT_NAME = new RegExp(`^${UNIT_PREFIX}([0-9a-f]{32})\\.service$`);
const CONFIG_PATH = /^\/.*\/([0-9a-f-]{36})\/dnsmasq\.conf$/;

/** What may be asked to be a bridge of ours. */
export const BRIDGE_PATTERN = `^${BRIDGE_PREFIX}[0-9a-f]{8,${NAME_DIGITS}}$`;

/** @throws {AgentError} INVALID_ARGUMENT: no lower-case UUID. */
export function bridgeName(networkId: string): string {
  return BRIDGE_PREFIX + digitsOf(networkId).slice(0, NAME_DIGITS);
}

/** @throws {AgentError} INVALID_ARGUMENT: no lower-case UUID. */
export function tapName(portId: string): string {
  return TAP_PREFIX + digitsOf(portId).slice(0, NAME_DIGITS);
}

/** The nftables table of a network; it holds the whole id, so that the name itself is the mark. */
export function tableName(networkId: string): string {
  return `berth_${digitsOf(networkId)}`;
}

/** The unit that dnsmasq runs in where systemd is the service manager. */
export function unitName(networkId: string): string {
  return `${UNIT_PREFIX}${digitsOf(networkId)}.service`;
}

/** The alias that marks a bridge as ours. */
export function bridgeAlias(networkId: string): string {
  return ALIAS_PREFIX + networkId;
}

/** The id in an alias of ours, or null for any other alias. */
export function networkIdOfAlias(alias: string): string | null {
  const id = alias.startsWith(ALIAS_PREFIX) ? alias.slice(ALIAS_PREFIX.length) : '';
  return UUID.test(id) ? id : null;
}

/** Whether a folder's name can be the id of a network. */
export function isNetworkId(name: string): boolean {
  return UUID.test(name);
}

/** The bridge's hardware address: the first of the two marks, and the same after each new making. */
export function bridgeHardwareAddress(networkId: string): string {
  const tail = digitsOf(networkId).slice(-2 * HARDWARE_BYTES);
  return [HARDWARE_PREFIX, ...(tail.match(/../g) ?? [])].join(':');
}

/** Whether a link's name has the form of our bridges. */
export function isBridgeName(name: string): boolean {
  return BRIDGE_NAME.test(name);
}

/** Whether a link's name has the form of our taps. */
export function isTapName(name: string): boolean {
  return TAP_NAME.test(name);
}

/** The network's id in the name of a table of ours; null for any other name. */
export function networkIdOfTable(name: string): string | null {
  return idOfDigits(TABLE_NAME.exec(name)?.[1]);
}

/** The network's id in the name of a unit of ours; null for any other name. */
export function networkIdOfUnit(name: string): string | null {
  return idOfDigits(UNIT_NAME.exec(name)?.[1]);
}

/** The network's id in the path of a dnsmasq's configuration, below whatever folder; null for any other path. */
export function networkIdOfConfig(path: string): string | null {
  const id = CONFIG_PATH.exec(path)?.[1] ?? '';
  return UUID.test(id) ? id : null;
}

export function isId(text: string): boolean {
  return UUID.test(text);
}

/** Whether a hardware address is of the kind that is given to our bridges. */
export function isBridgeHardwareAddress(address: string): boolean {
  return address.startsWith(`${HARDWARE_PREFIX}:`);
}

/** Files of one network. */
export interface NetworkFiles {
  directory: string;
  /** The network's plan, as JSON. */
  plan: string;
  config: string;
  pid: string;
  leases: string;
  /** One file for each port, read by dnsmasq. */
  hosts: string;
}

export function networkFiles(stateDir: string, networkId: string): NetworkFiles {
  digitsOf(networkId);
  const directory = join(stateDir, networkId);
  return {
    directory,
    plan: join(directory, 'plan.json'),
    config: join(directory, 'dnsmasq.conf'),
    pid: join(directory, 'dnsmasq.pid'),
    leases: join(directory, 'leases'),
    hosts: join(directory, 'hosts'),
  };
}

function idOfDigits(digits: string | undefined): string | null {
  return digits?.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') ?? null;
}

function digitsOf(id: string): string {
  if (UUID.test(id)) return id.replaceAll('-', '');
  throw new AgentError('INVALID_ARGUMENT', `Not a lower-case UUID: ${JSON.stringify(id.slice(0, 80))}`);
}
