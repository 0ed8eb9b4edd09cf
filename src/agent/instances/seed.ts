/**
 * The seed of a new instance: what its guest is told of itself. Checked on admission, journaled until it is written, and
 * kept by nothing but the seed itself from then on.
 */
import type { NetworkPlan, PortPlan } from '../../drivers/contracts/network.ts';
import type { SeedContents } from '../../drivers/contracts/storage.ts';
import type { InstanceSpec } from '../../model/instance.ts';
import { parseCidr, prefixLength } from '../../model/ipv4.ts';
import type { Services } from '../services.ts';
import type { InstancePlan, PortOfNetwork } from './plan.ts';
import { assertUserData } from './user-data.ts';

/** The plan of an instance that has no seed yet. */
export interface SeededPlan extends InstancePlan {
  seed: SeedContents;
}

/**
 * The spec with the vendor-data that it will have.
 *
 * @throws {AgentError} INVALID_ARGUMENT: a guest could not read its user-data or vendor-data.
 */
export function withVendorData(
  { vendorData }: Pick<Services, 'vendorData'>,
  spec: InstanceSpec,
): InstanceSpec {
  const { userData, userDataEncoding = 'text' } = spec;
  if (userData !== undefined)
    assertUserData({ what: 'spec.userData', text: userData, encoding: userDataEncoding });
  if (spec.vendorData !== undefined) {
    assertUserData({ what: 'spec.vendorData', text: spec.vendorData });
    return spec;
  }
  return vendorData === null ? spec : { ...spec, vendorData };
}

/** The seed that its spec asks for, with the ports that it has got. */
export function seedOf({ id, ports }: InstancePlan, spec: InstanceSpec): SeedContents {
  const { name, sshAuthorizedKeys, seed = 'nocloud', userData, userDataEncoding, vendorData } = spec;
  return {
    instanceId: id,
    hostname: name,
    sshAuthorizedKeys,
    userData: noneAsNull(userData),
    nics: ports.map(nicOf),
    format: seed,
    ...(userDataEncoding !== undefined && { userDataEncoding }),
    vendorData: noneAsNull(vendorData),
  };
}

/** Once the seed is written nothing in the journal needs them any more. */
export function withoutSeedSecrets<P extends SeededPlan>(plan: P): P {
  return { ...plan, seed: { ...plan.seed, userData: null, vendorData: null } };
}

function noneAsNull(text: string | undefined): string | null {
  return text === undefined || text === '' ? null : text;
}

function nicOf({ network, port }: PortOfNetwork): SeedContents['nics'][number] {
  return { macAddress: port.macAddress, static: network.dhcp ? null : staticAddress(network, port) };
}

function staticAddress(network: NetworkPlan, port: PortPlan) {
  return {
    address: port.ipAddress,
    prefix: prefixLength(parseCidr(network.cidr)),
    gateway: network.nat ? network.gatewayAddress : null,
    dnsServers: network.dnsServers,
  };
}
