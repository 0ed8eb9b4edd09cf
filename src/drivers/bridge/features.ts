/**
 * What this host's kernel and tools can do for networks, found out by doing it.
 *
 * The trials run in a network namespace of their own (unshare), which the kernel takes away with the
 * program: nothing is left, even after a crash, and the host's own network is never touched.
 */
import { AgentError } from '../../model/errors.ts';
import type { NetworkFeature, NetworkPlan } from '../contracts/network.ts';
import type { HostCall } from './host-call.ts';
import { ruleset } from './ruleset.ts';

/** A plan whose ruleset uses all that any ruleset uses. */
const TRIAL: NetworkPlan = {
  id: '00000000-0000-4000-8000-000000000000',
  name: 'trial',
  bridge: 'bb-00000000000',
  cidr: '10.80.0.0/24',
  gatewayAddress: '10.80.0.1',
  nat: true,
  dhcp: true,
  dnsServers: [],
};

/** Parts that Debian and Fedora build in and a self-made dnsmasq may lack. */
const DNSMASQ_PARTS = ['DHCP', 'inotify'];

/** Tries each feature. @throws {AgentError} CANCELLED, DEADLINE_EXCEEDED: nothing was found out. */
export async function probeFeatures(call: HostCall): Promise<NetworkFeature[]> {
  return Promise.all([
    probe('bridge', () => tryBridge(call)),
    probe('nat', () => tryNat(call)),
    probe('dhcp', () => tryDnsmasq(call)),
  ]);
}

async function probe(name: NetworkFeature['name'], attempt: () => Promise<string>): Promise<NetworkFeature> {
  try {
    return { name, usable: true, reason: await attempt() };
  } catch (thrown) {
    const error = AgentError.from(thrown);
    if (error.code === 'CANCELLED' || error.code === 'DEADLINE_EXCEEDED') throw error;
    return { name, usable: false, reason: error.toBody().message };
  }
}

async function tryBridge(call: HostCall): Promise<string> {
  await call.run('unshare', ['--net', 'ip', 'link', 'add', 'name', TRIAL.bridge, 'type', 'bridge']);
  return 'made a bridge in a namespace of its own';
}

async function tryNat(call: HostCall): Promise<string> {
  await call.run('unshare', ['--net', 'nft', '-f', '-'], ruleset(TRIAL));
  return 'loaded a ruleset in a namespace of its own';
}

async function tryDnsmasq(call: HostCall): Promise<string> {
  const about = await call.run('dnsmasq', ['--version']);
  const words = about.split(/\s+/);
  const missing = DNSMASQ_PARTS.find((part) => !words.includes(part));
  if (missing === undefined) return (about.split('\n')[0] ?? '').trim();
  throw new AgentError('UNSUPPORTED', `dnsmasq was built without ${missing}`);
}
