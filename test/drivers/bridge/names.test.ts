import t from 'tap';
import * as names from '../../../src/drivers/bridge/names.ts';
import fc from '../../property.ts';

const aUuid = fc.uuid();

t.test('every name of a network holds for any id, and its alias leads back to it', async (t) => {
  fc.assert(
    fc.property(aUuid, (id) => {
      t.match(names.bridgeName(id), new RegExp(names.BRIDGE_PATTERN));
      t.ok(names.bridgeName(id).length <= 15 && names.tapName(id).length <= 15);
      t.match(names.tableName(id), /^berth_[0-9a-f]{32}$/);
      t.equal(names.networkIdOfAlias(names.bridgeAlias(id)), id);
      // Unicast and locally administered: the two low bits of the first byte are 1, 0.
      t.match(names.bridgeHardwareAddress(id), /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    }),
  );
});

t.test('head and tail of an id show in the bridge’s name and hardware address', async (t) => {
  const id = '01234567-89ab-4cde-8f01-23456789abcd';
  t.equal(names.bridgeName(id), 'bb-0123456789a');
  t.equal(names.tapName(id), 'bt-0123456789a');
  t.equal(names.bridgeHardwareAddress(id), '0a:45:67:89:ab:cd');
  t.equal(names.unitName(id), 'berth-dhcp-0123456789ab4cde8f0123456789abcd.service');
  t.equal(names.networkFiles('/run/berth/networks', id).config, `/run/berth/networks/${id}/dnsmasq.conf`);
});

t.test('an alias of somebody else leads to no id', async (t) => {
  for (const alias of [
    '',
    'uplink',
    'berth:network:',
    'berth:network:x',
    'berth:port:01234567-89ab-4cde-8f01-23456789abcd',
  ]) {
    t.equal(names.networkIdOfAlias(alias), null, alias);
  }
});

t.test('text that is no id has no names and no paths', async (t) => {
  for (const id of [
    '',
    '..',
    '01234567-89AB-4cde-8f01-23456789abcd',
    '01234567-89ab-4cde-8f01-23456789abcd\n',
  ]) {
    t.throws(() => names.tableName(id), { code: 'INVALID_ARGUMENT' });
    t.throws(() => names.networkFiles('/run', id), { code: 'INVALID_ARGUMENT' });
  }
});
