/**
 * network.create and network.delete, and the mending of networks at start.
 */
import { randomUUID } from 'node:crypto';
import { timestamp } from '../../drivers/contracts/clock.ts';
import type { NetworkPlan } from '../../drivers/contracts/network.ts';
import { AgentError } from '../../model/errors.ts';
import { gatewayOf, overlap, parseCidr } from '../../model/ipv4.ts';
import type { NetworkSpec } from '../../model/network.ts';
import type { OperationKind } from '../operations/kind.ts';
import type { Services } from '../services.ts';
import { planOf } from '../store/networks.ts';

export function createNetwork(services: Services): OperationKind<'network.create', NetworkPlan> {
  const { store, network: driver, clock } = services;
  return {
    method: 'network.create',
    version: 1,
    stages: [
      [
        {
          name: 'make-network',
          look: async (plan, { signal }) => ((await driver.look(plan, { signal })) === 'present' ? {} : null),
          act: (plan, { signal }) => driver.ensureNetwork(plan, { signal }),
          undo: (plan, { signal }) => removeOurs(services, plan, signal),
        },
      ],
    ],
    makes: ({ id }) => driver.names(id),
    accept({ spec }) {
      assertFree(services, spec);
      const id = randomUUID();
      const { name, cidr, nat, dhcp, dnsServers } = spec;
      const plan = {
        id,
        name,
        bridge: driver.bridgeName(id),
        cidr,
        gatewayAddress: gatewayOf(parseCidr(cidr)),
        nat,
        dhcp,
        dnsServers,
      };
      store.networks.insert(plan, timestamp(clock));
      return { verdict: 'run', target: { kind: 'network', id, name }, plan };
    },
    succeeded({ id, name }) {
      store.networks.setState(id, 'ready');
      store.events.append(
        'network.created',
        { kind: 'network', id, name },
        { network: store.networks.get(id) },
      );
    },
    undone: ({ id }) => store.networks.remove(id),
  };
}

export function deleteNetwork({
  store,
  network: driver,
}: Services): OperationKind<'network.delete', NetworkPlan> {
  return {
    method: 'network.delete',
    version: 1,
    stages: [
      [
        {
          name: 'remove-network',
          look: async (plan, { signal }) => ((await driver.look(plan, { signal })) === 'absent' ? {} : null),
          act: (plan, { signal }) => driver.removeNetwork(plan, { signal }),
        },
      ],
    ],
    removes: ({ id }) => driver.names(id),
    accept(params) {
      const network = store.networks.get(params.id);
      if (network.ports > 0)
        throw new AgentError('ILLEGAL_STATE', `${network.ports} ports use network ${network.name}`, {
          hint: 'Delete their instances first.',
        });
      if (network.state === 'creating')
        throw new AgentError('ILLEGAL_STATE', `Network ${network.name} is being made`, {
          hint: 'Cancel that operation instead.',
        });
      store.networks.setState(network.id, 'deleting');
      return {
        verdict: 'run',
        target: { kind: 'network', id: network.id, name: network.name },
        plan: planOf(network),
      };
    },
    succeeded({ id, name }) {
      store.networks.remove(id);
      store.events.append('network.deleted', { kind: 'network', id, name }, { id });
    },
    undone: () => undefined,
  };
}

/** After a reboot of the host bridges, rules and DHCP servers are gone; each network is made whole again. */
export async function mendNetworks(services: Services, signal: AbortSignal): Promise<void> {
  const ready = services.store.networks.list().filter(({ state }) => state === 'ready');
  for (const network of ready) {
    if (signal.aborted) return;
    await mendNetwork(services, planOf(network), signal).catch((error: unknown) =>
      services.log.error({ network: network.name, error }, 'a network could not be mended'),
    );
  }
}

async function mendNetwork(
  { store, network: driver, log }: Services,
  plan: NetworkPlan,
  signal: AbortSignal,
): Promise<void> {
  const presence = await driver.look(plan, { signal });
  if (presence === 'present') return;
  log.info({ network: plan.name, presence }, 'a network is mended');
  await driver.ensureNetwork(plan, { signal });
  for (const port of store.networks.portsIn(plan.id)) {
    const { name: hostname } = store.instances.get(port.instanceId);
    const { id, macAddress, ipAddress } = port;
    await driver.ensurePort(plan, { id, macAddress, ipAddress, hostname }, { signal });
  }
}

/** A bridge that turned out to be somebody else's is left as it is. */
async function removeOurs(
  { network: driver }: Services,
  plan: NetworkPlan,
  signal: AbortSignal,
): Promise<void> {
  if ((await driver.look(plan, { signal })) !== 'foreign') await driver.removeNetwork(plan, { signal });
}

function assertFree({ store }: Services, spec: NetworkSpec): void {
  if (store.networks.find(spec.name) !== null) {
    throw new AgentError('ALREADY_EXISTS', `There is a network ${spec.name} on this node already`, {
      hint: 'Choose another name.',
    });
  }
  const range = parseCidr(spec.cidr);
  const other = store.networks.list().find(({ cidr }) => overlap(range, parseCidr(cidr)));
  if (other === undefined) return;
  throw new AgentError('ALREADY_EXISTS', `${spec.cidr} overlaps with network ${other.name} (${other.cidr})`, {
    hint: 'Choose another range.',
  });
}
