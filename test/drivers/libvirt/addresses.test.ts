/**
 * What a guest claims about its addresses.
 */
import t from 'tap';
import { guestAddressesOf } from '../../../src/drivers/libvirt/addresses.ts';

const hwaddr = '52:54:00:00:00:01';

t.test('addresses are given with their interface; loopback is left out', async (t) => {
  const addresses = guestAddressesOf([
    { name: 'lo', hwaddr: '00:00:00:00:00:00', addrs: [{ type: 0, addr: '127.0.0.1', prefix: 8 }] },
    {
      name: 'eth0',
      hwaddr: hwaddr.toUpperCase(),
      addrs: [
        { type: 0, addr: '10.0.0.7', prefix: 24 },
        { type: 1, addr: 'FE80::1', prefix: 64 },
      ],
    },
  ]);
  t.same(addresses, [
    { interface: 'eth0', macAddress: hwaddr, address: '10.0.0.7', prefix: 24 },
    { interface: 'eth0', macAddress: hwaddr, address: 'fe80::1', prefix: 64 },
  ]);
});

t.test('what is no address, no prefix, no name or no MAC address is left out', async (t) => {
  const good = { type: 0, addr: '10.0.0.7', prefix: 24 };
  const bad = [
    { type: 0, addr: '<script>', prefix: 24 },
    { type: 0, addr: '10.0.0.7', prefix: 33 },
    { type: 1, addr: 'fe80::1', prefix: -1 },
  ];
  t.same(guestAddressesOf([{ name: 'eth0', hwaddr, addrs: bad }]), []);
  t.same(guestAddressesOf([{ name: 'eth0', hwaddr: null, addrs: [good] }]), []);
  t.same(guestAddressesOf([{ name: 'eth0', hwaddr: 'x', addrs: [good] }]), []);
  t.same(guestAddressesOf([{ name: 'eth\u001b[0m', hwaddr, addrs: [good] }]), []);
  t.same(guestAddressesOf([{ name: 'e'.repeat(65), hwaddr, addrs: [good] }]), []);
});

t.test('a guest with thousands of addresses gets no more than the limit', async (t) => {
  const addrs = Array.from({ length: 2000 }, () => ({ type: 0, addr: '10.0.0.7', prefix: 24 }));
  t.equal(guestAddressesOf([{ name: 'eth0', hwaddr, addrs }]).length, 256);
});
