/**
 * The guest agent's answer → addresses. Pure. The guest wrote it, so nothing in it is believed (promise 8).
 */
import { isIP } from 'node:net';
import type { protocol } from 'node-libvirt';
import type { GuestAddress } from '../contracts/hypervisor.ts';

/** More addresses than any honest guest has; the rest is left out. */
const ADDRESSES_LIMIT = 256;
/** Linux allows 15 characters, Windows names an interface in words. */
const INTERFACE_NAME_LIMIT = 64;
const PREFIX_MAX = { 4: 32, 6: 128 } as const;
const LOOPBACK = /^(127\.|::1$)/;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** Well-formed addresses of the guest's interfaces, loopback left out, at most 256. */
export function guestAddressesOf(interfaces: readonly protocol.DomainInterface[]): GuestAddress[] {
  return interfaces.flatMap(addressesOf).slice(0, ADDRESSES_LIMIT);
}

function addressesOf({ name, hwaddr, addrs }: protocol.DomainInterface): GuestAddress[] {
  const macAddress = (hwaddr ?? '').toLowerCase();
  if (!MAC.test(macAddress) || !isName(name)) return [];
  return addrs
    .filter(({ addr, prefix }) => isAddress(addr, prefix) && !LOOPBACK.test(addr))
    .map(({ addr, prefix }) => ({ interface: name, macAddress, address: addr.toLowerCase(), prefix }));
}

function isName(name: string): boolean {
  return name.length > 0 && name.length <= INTERFACE_NAME_LIMIT && !/\p{Cc}/u.test(name);
}

function isAddress(address: string, prefix: number): boolean {
  const version = isIP(address);
  if (version !== 4 && version !== 6) return false;
  return Number.isInteger(prefix) && prefix >= 0 && prefix <= PREFIX_MAX[version];
}
