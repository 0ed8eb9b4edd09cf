/**
 * IPv4 ranges as numbers, and the few sums that handing out addresses needs. Pure.
 */
import { AgentError } from './errors.ts';

/** All addresses from `first` to `last`, both included, as unsigned 32-bit numbers. */
export interface Range {
  first: number;
  last: number;
}

const OCTET_MAX = 255;
const ADDRESS_BITS = 32;

/** The address as an unsigned number, or null where the text is not dotted decimal. */
export function parseAddress(text: string): number | null {
  const octets = text.split('.');
  if (octets.length !== 4 || !octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet))) return null;
  const numbers = octets.map(Number);
  if (numbers.some((octet) => octet > OCTET_MAX)) return null;
  return numbers.reduce((address, octet) => address * 256 + octet, 0);
}

/** The range of `10.80.0.0/24`, or of a single address; null where it is neither. Host bits are cut off. */
export function parseRange(text: string): Range | null {
  const [addressText = '', prefixText = String(ADDRESS_BITS), ...rest] = text.split('/');
  const address = parseAddress(addressText);
  const prefix = prefixOf(prefixText);
  if (address === null || prefix === null || rest.length > 0) return null;
  const size = 2 ** (ADDRESS_BITS - prefix);
  const first = address - (address % size);
  return { first, last: first + size - 1 };
}

export function prefixLength(range: Range): number {
  return ADDRESS_BITS - Math.log2(range.last - range.first + 1);
}

export function netmask(range: Range): string {
  return formatAddress(2 ** ADDRESS_BITS - (range.last - range.first + 1));
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

export function overlap(a: Range, b: Range): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** Whether a host may have the address: in the range, and neither its network nor its broadcast address. */
export function isHostAddress(range: Range, address: number): boolean {
  return address > range.first && address < range.last;
}

/** @throws {AgentError} INVALID_ARGUMENT when it is no network, or has bits set beyond its prefix. */
export function parseCidr(cidr: string): Range {
  const range = parseRange(cidr);
  if (range === null) throw new AgentError('INVALID_ARGUMENT', `${cidr} is no IPv4 network`);
  const meant = `${formatAddress(range.first)}/${prefixLength(range)}`;
  if (meant === cidr) return range;
  throw new AgentError('INVALID_ARGUMENT', `${cidr} has bits set beyond its prefix`, {
    hint: `Did you mean ${meant}?`,
  });
}

/** The first host address: the gateway of every network that Berth makes. */
export function gatewayOf(range: Range): string {
  return formatAddress(range.first + 1);
}

/** Whether a guest may have it: a host address that is not the gateway's. */
export function isGuestAddress(range: Range, text: string): boolean {
  const address = parseAddress(text);
  return address !== null && isHostAddress(range, address) && address !== range.first + 1;
}

/** The lowest guest address that is not taken; null when the network is full. */
export function firstFree(range: Range, taken: ReadonlySet<string>): string | null {
  for (let address = range.first + 2; address < range.last; address++) {
    const text = formatAddress(address);
    if (!taken.has(text)) return text;
  }
  return null;
}

function prefixOf(text: string): number | null {
  return /^\d{1,2}$/.test(text) && Number(text) <= ADDRESS_BITS ? Number(text) : null;
}
