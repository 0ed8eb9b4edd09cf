/**
 * The gate for plans: what passes here is safe in an argument, an nft ruleset, a dnsmasq file and a path.
 * Pure.
 */

import { AgentError } from '../../model/errors.ts';
import {
  formatAddress,
  isHostAddress,
  overlap,
  parseAddress,
  parseRange,
  type Range,
} from '../../model/ipv4.ts';
import { parse } from '../../model/validate.ts';
import { NetworkPlan, PortPlan } from '../contracts/network.ts';
import { BRIDGE_PATTERN } from './names.ts';

const BRIDGE = new RegExp(BRIDGE_PATTERN);

/** Ranges that no network of guests can have. @see RFC 6890 */
const UNUSABLE = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'];

/** @throws {AgentError} INVALID_ARGUMENT: malformed, or it contradicts itself. */
export function checkNetwork(plan: NetworkPlan): void {
  parse(NetworkPlan, plan, 'network plan');
  if (!BRIDGE.test(plan.bridge)) refuse(`Bridge ${plan.bridge} is not bb- and 8 to 11 hexadecimal digits`);
  const range = rangeOf(plan);
  if (plan.cidr.split('/')[0] !== formatAddress(range.first)) {
    refuse(`Network ${plan.cidr} has host bits set; meant is ${formatAddress(range.first)}`);
  }
  const unusable = UNUSABLE.find((text) => overlap(range, parseRange(text) ?? range));
  if (unusable !== undefined) refuse(`Network ${plan.cidr} lies in ${unusable}, which no guest can use`);
  if (!inside(range, plan.gatewayAddress)) {
    refuse(`Gateway ${plan.gatewayAddress} is no host address of ${plan.cidr}`);
  }
}

/** @throws {AgentError} INVALID_ARGUMENT: malformed, or its address is not one for a guest of `network`. */
export function checkPort(network: NetworkPlan, port: PortPlan): void {
  checkNetwork(network);
  parse(PortPlan, port, 'port plan');
  if (!inside(rangeOf(network), port.ipAddress)) {
    refuse(`Address ${port.ipAddress} is no host address of ${network.cidr}`);
  }
  if (port.ipAddress === network.gatewayAddress) {
    refuse(`Address ${port.ipAddress} is the gateway of ${network.cidr}`);
  }
}

/** @throws {AgentError} INVALID_ARGUMENT: no IPv4 network. */
export function rangeOf(plan: NetworkPlan): Range {
  const range = parseRange(plan.cidr);
  return range ?? refuse(`Not an IPv4 network: ${plan.cidr}`);
}

function inside(range: Range, text: string): boolean {
  const address = parseAddress(text);
  return address !== null && isHostAddress(range, address);
}

function refuse(message: string): never {
  throw new AgentError('INVALID_ARGUMENT', message);
}
