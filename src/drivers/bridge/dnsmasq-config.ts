/**
 * The configuration of a network's dnsmasq, as text. Pure.
 *
 * Addresses are handed out to known ports only (`static`), each from a file of its own in the hosts
 * folder, which dnsmasq watches: a port is added without a restart.
 */

import { formatAddress, netmask } from '../../model/ipv4.ts';
import type { NetworkPlan, PortPlan } from '../contracts/network.ts';
import type { NetworkFiles } from './names.ts';
import { rangeOf } from './plans.ts';

/** Hours: a guest keeps its address while dnsmasq is away for half of that at least. */
const LEASE_HOURS = 12;
/** Private top-level domain. @see ICANN resolution 2024.07.29.06 */
const DOMAIN = 'internal';

/** What of the host the configuration depends on. */
export interface DnsmasqHost {
  /** User that dnsmasq becomes once its ports are open; null for the one it was built with. */
  user: string | null;
}

/** Whether the network needs a dnsmasq: for addresses, or as its resolver. */
export function needsDnsmasq(plan: NetworkPlan): boolean {
  return plan.dhcp || servesDns(plan);
}

export function dnsmasqConfig(plan: NetworkPlan, files: NetworkFiles, host: DnsmasqHost): string {
  const lines = [
    `# Network ${plan.name} (${plan.id}). Written by berthd, which overwrites changes.`,
    `pid-file=${files.pid}`,
    ...(host.user === null ? [] : [`user=${host.user}`]),
    `interface=${plan.bridge}`,
    'except-interface=lo',
    'bind-interfaces',
    ...dnsLines(plan),
    ...(plan.dhcp ? dhcpLines(plan, files) : []),
  ];
  return `${lines.join('\n')}\n`;
}

/** The line by which dnsmasq knows a port; the content of its file in the hosts folder. */
export function hostLine(port: PortPlan): string {
  return `${port.macAddress},${port.ipAddress},${port.hostname}\n`;
}

/** A line of the leases file. */
export interface Lease {
  macAddress: string;
  ipAddress: string;
  line: string;
}

/** Reads `EXPIRY MAC ADDRESS NAME CLIENT-ID` lines; what is no IPv4 lease is left out. */
export function parseLeases(text: string): Lease[] {
  return text.split('\n').flatMap((line) => {
    const [, macAddress, ipAddress] = line.split(' ');
    return macAddress === undefined || ipAddress === undefined ? [] : [{ macAddress, ipAddress, line }];
  });
}

function servesDns(plan: NetworkPlan): boolean {
  return plan.dnsServers.length === 0;
}

/** An isolated network knows its own names only: a resolver that asks the outside is a way out. */
function dnsLines(plan: NetworkPlan): string[] {
  if (!servesDns(plan)) return ['port=0'];
  return [
    'no-hosts',
    'domain-needed',
    `domain=${domainOf(plan)}`,
    `local=/${domainOf(plan)}/`,
    ...(plan.nat ? [] : ['no-resolv']),
  ];
}

function dhcpLines(plan: NetworkPlan, files: NetworkFiles): string[] {
  const range = rangeOf(plan);
  const nameServers = servesDns(plan) ? [plan.gatewayAddress] : plan.dnsServers;
  return [
    `dhcp-range=${formatAddress(range.first)},static,${netmask(range)},${LEASE_HOURS}h`,
    `dhcp-lease-max=${range.last - range.first - 1}`,
    `dhcp-hostsdir=${files.hosts}`,
    `dhcp-leasefile=${files.leases}`,
    'dhcp-authoritative',
    // Without a value the option is left out: an isolated network has no way out.
    plan.nat ? `dhcp-option=option:router,${plan.gatewayAddress}` : 'dhcp-option=option:router',
    `dhcp-option=option:dns-server,${nameServers.join(',')}`,
  ];
}

function domainOf(plan: NetworkPlan): string {
  return `${plan.name}.${DOMAIN}`;
}
