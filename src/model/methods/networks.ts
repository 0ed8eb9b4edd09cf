/** Methods of networks. */
import { Fence, NameOrId, strict } from '../common.ts';
import { type Method, none, one, operation, read } from '../method.ts';
import { Network, NetworkSpec } from '../network.ts';
import { Type } from '../schema.ts';

export const NETWORK_METHODS = {
  'network.list': read('List the networks.', none, strict({ networks: Type.Array(Network) })),
  'network.show': read('Show one network.', one, strict({ network: Network })),
  'network.create': operation(
    'Make a network: a bridge with an address, DHCP and NAT.',
    strict({ spec: NetworkSpec, ...Fence }),
  ),
  'network.delete': operation(
    'Delete a network that no port uses.',
    strict({ id: NameOrId, ...Fence }),
    'ready and unused',
  ),
} as const satisfies Record<string, Method>;
