/**
 * What the network contract's tests stand on: the rig, plans of networks and ports, and refusals.
 */
import type { Test } from 'tap';
import type { NetworkDriver, NetworkPlan, PortPlan } from '../../../src/drivers/contracts/network.ts';
import { AgentError, type ErrorCode } from '../../../src/model/errors.ts';

/** A driver, and what a test needs to do to its host without it. */
export interface NetworkRig {
  driver: NetworkDriver;
  /** A second driver on the same host, as after a restart of the agent. */
  reopen(): NetworkDriver;
  /** Puts a bridge of this name on the host that does not bear our mark. */
  addForeignBridge(name: string): Promise<void>;
  /** Whether a bridge of this name is on the host, whoever made it. */
  hasBridge(name: string): Promise<boolean>;
  /** Plugs a device into a bridge, as a hypervisor does with a tap; the answer unplugs it. */
  plugDevice(bridge: string, device: string): Promise<() => Promise<void>>;
  /** Makes a network's bridge as a maker that was interrupted right after leaves it. */
  beginBridge(plan: NetworkPlan): Promise<void>;
  /** Puts a tap on the host that nobody has open, plugged in nowhere. */
  addTap(name: string): Promise<void>;
  /** Makes every question to the host fail; the answer mends it. */
  cutOff(): Promise<() => Promise<void>>;
  /** Takes one part of a present network away; by what is taken. At least one. */
  damages: Record<string, (plan: NetworkPlan) => Promise<void>>;
  /** What is on the host and was not there at the rig's start, in words; empty for nothing. */
  leftovers(): Promise<string[]>;
}

/** Makes a rig on an empty host; its own teardown is registered with `t.teardown`. */
export type NetworkRigMaker = (t: Test) => Promise<NetworkRig>;

/** Sets ids of this process and its children apart from those of a test beside it, whose dnsmasq is seen, too. */
process.env['BERTH_TEST_NETWORKS'] ??= process.pid.toString(16).padStart(8, '0');
const OURS = process.env['BERTH_TEST_NETWORKS'];

/** A plan of a small network; `index` (0 to 200) sets id and addresses apart from the others. */
export function networkPlan(
  driver: NetworkDriver,
  index: number,
  changes: Partial<NetworkPlan> = {},
): NetworkPlan {
  const id = `${(0xbe0000 + index).toString(16)}00-1111-4222-8333-${OURS}${index.toString(16).padStart(4, '0')}`;
  return {
    id,
    name: `net-${index}`,
    bridge: driver.bridgeName(id),
    cidr: `10.203.${index}.0/24`,
    gatewayAddress: `10.203.${index}.1`,
    nat: true,
    dhcp: true,
    dnsServers: [],
    ...changes,
  };
}

/** A plan of a port in `network`; `index` (0 to 200) sets id and addresses apart from the others. */
export function portPlan(network: NetworkPlan, index: number, changes: Partial<PortPlan> = {}): PortPlan {
  const digits = index.toString(16).padStart(2, '0');
  return {
    id: `c0${network.id.slice(4, 6)}${digits}00-aaaa-4bbb-8ccc-${network.id.slice(-12)}`,
    macAddress: `52:54:00:00:${network.id.slice(-2)}:${digits}`,
    ipAddress: `${network.gatewayAddress.split('.').slice(0, 3).join('.')}.${10 + index}`,
    hostname: `guest-${index}`,
    ...changes,
  };
}

export async function rejectsWith(
  t: Test,
  code: ErrorCode,
  call: Promise<unknown>,
  message = `refused with ${code}`,
): Promise<AgentError | null> {
  try {
    await call;
  } catch (thrown) {
    t.type(thrown, AgentError);
    t.equal((thrown as AgentError).code, code, message);
    return thrown as AgentError;
  }
  t.fail(`${message}, but it was done`);
  return null;
}
