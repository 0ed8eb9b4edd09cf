/**
 * IPv4 networks: the few sums that handing out addresses needs. Pure.
 */
import { AgentError } from './errors.ts';

export interface Ipv4Network {
  /** Address of the network itself, as a number. */
  base: number;
  prefix: number;
  /** Number of addresses, the network's own and the broadcast address among them. */
  size: number;
}

/** @throws {AgentError} INVALID_ARGUMENT when it is no network, or has bits set beyond its prefix. */
export function parseCidr(cidr: string): Ipv4Network {
  const [address, prefixText] = cidr.split('/') as [string, string];
  const prefix = Number(prefixText);
  const size = 2 ** (32 - prefix);
  const base = toNumber(address);
  if (base === null) throw new AgentError('INVALID_ARGUMENT', `${cidr} is no IPv4 network`);
  if (base % size !== 0) {
    throw new AgentError('INVALID_ARGUMENT', `${cidr} has bits set beyond its prefix`, {
      hint: `Did you mean ${toText(base - (base % size))}/${prefix}?`,
    });
  }
  return { base, prefix, size };
}

/** The first host address: the gateway of every network that Berth makes. */
export function gatewayOf(network: Ipv4Network): string {
  return toText(network.base + 1);
}

/** Whether a guest may have it: inside, and neither the network, the gateway nor the broadcast address. */
export function isGuestAddress(network: Ipv4Network, address: string): boolean {
  const number = toNumber(address);
  return number !== null && number > network.base + 1 && number < network.base + network.size - 1;
}

/** The lowest guest address that is not taken; null when the network is full. */
export function firstFree(network: Ipv4Network, taken: ReadonlySet<string>): string | null {
  for (let number = network.base + 2; number < network.base + network.size - 1; number++) {
    const address = toText(number);
    if (!taken.has(address)) return address;
  }
  return null;
}

export function overlaps(a: Ipv4Network, b: Ipv4Network): boolean {
  return a.base < b.base + b.size && b.base < a.base + a.size;
}

function toNumber(address: string): number | null {
  const parts = address.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return null;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

function toText(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');
}
