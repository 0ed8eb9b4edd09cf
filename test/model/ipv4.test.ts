import t from 'tap';
import { firstFree, gatewayOf, isGuestAddress, overlap, parseCidr } from '../../src/model/ipv4.ts';
import fc from '../property.ts';

t.test('addresses are handed out from the third on, lowest first, and never twice', async (t) => {
  const network = parseCidr('10.80.0.0/29');
  const taken = new Set<string>();
  for (let address = firstFree(network, taken); address !== null; address = firstFree(network, taken))
    taken.add(address);
  t.same([...taken], ['10.80.0.2', '10.80.0.3', '10.80.0.4', '10.80.0.5', '10.80.0.6']);
  t.equal(gatewayOf(network), '10.80.0.1');
});

t.test('a network with bits beyond its prefix is refused with the one that was meant', async (t) => {
  t.throws(() => parseCidr('10.80.0.5/24'), { code: 'INVALID_ARGUMENT', hint: 'Did you mean 10.80.0.0/24?' });
  t.throws(() => parseCidr('10.80.300.0/24'), { code: 'INVALID_ARGUMENT' });
});

t.test('network, gateway, broadcast and foreign addresses are not for guests', async (t) => {
  const network = parseCidr('192.168.128.0/17');
  for (const address of [
    '192.168.128.0',
    '192.168.128.1',
    '192.168.255.255',
    '192.168.127.255',
    '10.0.0.1',
  ]) {
    t.notOk(isGuestAddress(network, address), address);
  }
  t.ok(isGuestAddress(network, '192.168.200.7'));
});

t.test('whatever is free is a guest address of its network', async () => {
  fc.assert(
    fc.property(fc.integer({ min: 16, max: 29 }), fc.integer({ min: 0, max: 255 }), (prefix, octet) => {
      const network = parseCidr(`${octet}.0.0.0/${prefix}`);
      const free = firstFree(network, new Set());
      return free !== null && isGuestAddress(network, free);
    }),
    { seed: 20260101 },
  );
});

t.test('overlap is told both ways', async (t) => {
  const [wide, inner, other] = ['10.0.0.0/16', '10.0.7.0/24', '10.1.0.0/16'].map(parseCidr) as [
    never,
    never,
    never,
  ];
  t.ok(overlap(wide, inner));
  t.ok(overlap(inner, wide));
  t.notOk(overlap(wide, other));
});
