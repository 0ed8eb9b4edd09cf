/**
 * Networks as callers see them. Now: a Linux bridge with addresses, DHCP and NAT.
 */

import { Id, Ipv4Address, Name, strict, Timestamp } from './common.ts';
import { type Static, Type } from './schema.ts';

/** A private IPv4 network, /16 to /29: enough room for a gateway and guests, small enough to list. */
export const Cidr = Type.String({
  pattern: '^(\\d{1,3}\\.){3}\\d{1,3}/(1[6-9]|2[0-9])$',
  description: 'IPv4 network such as 10.80.0.0/24, prefix 16 to 29',
});

export const NetworkSpec = strict({
  name: Name,
  cidr: Cidr,
  nat: Type.Boolean({ default: true, description: "guests reach the outside through the host's address" }),
  dhcp: Type.Boolean({ default: true, description: 'addresses are handed out by dnsmasq' }),
  dnsServers: Type.Array(Ipv4Address, {
    maxItems: 3,
    default: [],
    description: "handed to guests; empty for the network's own resolver",
  }),
});
export type NetworkSpec = Static<typeof NetworkSpec>;

export const Network = strict({
  id: Id,
  name: Name,
  bridge: Type.String({ description: 'name of the Linux bridge' }),
  cidr: Cidr,
  gatewayAddress: Ipv4Address,
  nat: Type.Boolean(),
  dhcp: Type.Boolean(),
  dnsServers: Type.Array(Ipv4Address),
  ports: Type.Integer({ description: 'ports in use' }),
  state: Type.Enum(['creating', 'ready', 'deleting']),
  createdAt: Timestamp,
});
export type Network = Static<typeof Network>;
