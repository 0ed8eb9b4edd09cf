/**
 * Plans for the tests of the pure parts, fixed and drawn at random.
 */
import { bridgeName } from '../../../src/drivers/bridge/names.ts';
import type { NetworkPlan } from '../../../src/drivers/contracts/network.ts';
import { formatAddress, parseRange } from '../../../src/model/ipv4.ts';
import fc from '../../property.ts';

const ID = '0a1b2c3d-4e5f-4a6b-8c7d-8e9fa0b1c2d3';

/** The variants that the golden files hold, by file name. */
export const SAMPLES: Record<string, NetworkPlan> = {
  'nat-dhcp': sample({}),
  'nat-static': sample({ dhcp: false }),
  'nat-dhcp-own-dns': sample({ dnsServers: ['192.0.2.53', '198.51.100.53'] }),
  'isolated-dhcp': sample({ nat: false, cidr: '172.20.16.0/20', gatewayAddress: '172.20.16.1' }),
};

const aLabel = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/);

/** Any plan that is well formed. */
export const anyPlan: fc.Arbitrary<NetworkPlan> = fc
  .record({
    id: fc.uuid(),
    name: aLabel,
    prefix: fc.integer({ min: 16, max: 29 }),
    second: fc.nat({ max: 255 }),
    third: fc.nat({ max: 255 }),
    nat: fc.boolean(),
    dhcp: fc.boolean(),
    dnsServers: fc.array(fc.ipV4(), { maxLength: 3 }),
  })
  .map(({ id, name, prefix, second, third, ...rest }) => {
    const range = parseRange(`10.${second}.${third}.0/${prefix}`)!;
    return {
      id,
      name,
      bridge: bridgeName(id),
      cidr: `${formatAddress(range.first)}/${prefix}`,
      gatewayAddress: formatAddress(range.first + 1),
      ...rest,
    };
  });

function sample(changes: Partial<NetworkPlan>): NetworkPlan {
  return {
    id: ID,
    name: 'default',
    bridge: bridgeName(ID),
    cidr: '10.80.0.0/24',
    gatewayAddress: '10.80.0.1',
    nat: true,
    dhcp: true,
    dnsServers: [],
    ...changes,
  };
}
