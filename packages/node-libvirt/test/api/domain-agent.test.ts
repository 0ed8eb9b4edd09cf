/** Domain: what the guest agent does, and what it says. */
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { OPENS_PORT_1 } from './boot-sectors.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, floppy, GUEST_HOST, GUEST_PROGRAMS, guestXml, once } from './domain-guest.ts';
import { FakeAgent } from './fake-agent.ts';
import { DOMAIN_SHARES } from './shares.ts';

const called = record(Domain, DOMAIN_SHARES, 'guest agent');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

const NOTHING = '{}';
const REPLIES = {
  'guest-fsfreeze-freeze': '2',
  'guest-fsfreeze-freeze-list': '1',
  'guest-fsfreeze-thaw': '3',
  'guest-fstrim': NOTHING,
  'guest-get-fsinfo': `[{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": [],
    "total-bytes": 1152921504606846977, "used-bytes": 4096}]`,
  'guest-get-users': '[{"user": "ada", "login-time": 1700000000.5}]',
  'guest-get-host-name': '{"host-name": "nad.example.org"}',
  'guest-get-vcpus': `[{"logical-id": 0, "online": true, "can-offline": false},
    {"logical-id": 1, "online": false, "can-offline": true}]`,
  'guest-set-vcpus': '1',
  'guest-get-time': '1700000000123456789',
  'guest-set-time': NOTHING,
  'guest-set-user-password': NOTHING,
  'guest-ssh-get-authorized-keys': '{"keys": ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"]}',
  'guest-ssh-add-authorized-keys': NOTHING,
  'guest-network-get-interfaces': `[{"name": "lo"}, {"name": "eth0", "hardware-address": "52:54:00:6e:61:64",
    "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "192.0.2.7", "prefix": 24}]}]`,
  'guest-suspend-ram': NOTHING,
  'guest-ping': NOTHING,
};

/** Shared by the tests of this file. */
const guest = once(async () => {
  const { dir } = daemon().host;
  const agent = await FakeAgent.listen(t, dir, REPLIES);
  const connection = await connectionTo('qemu:///system');
  const devices = agent.channel + floppy(dir, OPENS_PORT_1);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-agent', devices }));
  await domain.create();
  await until(() => agent.isHeardFrom(domain), 'the agent is there');
  return { agent, domain };
});

t.test('a guest agent is asked directly', { skip }, async (t) => {
  const { domain } = await guest();
  t.strictSame(JSON.parse((await domain.qemuAgentCommand('{"execute":"guest-ping"}')) ?? ''), {
    return: {},
  });
});

t.test('a guest agent holds file systems still, and trims them', { skip }, async (t) => {
  const { agent, domain } = await guest();
  t.equal(await domain.fsFreeze(), 2);
  t.equal(await domain.fsThaw(), 3);
  t.equal(await domain.fsFreeze(['/var', '/home']), 1);
  t.strictSame(agent.lastArguments('guest-fsfreeze-freeze-list'), { mountpoints: ['/var', '/home'] });
  await domain.fsThaw();
  await domain.fsTrim(null, 2n ** 40n);
  t.strictSame(agent.lastArguments('guest-fstrim'), { minimum: 2 ** 40 });
  t.strictSame(await domain.getFSInfo(), [
    { mountpoint: '/', name: 'vda1', fstype: 'ext4', dev_aliases: [] },
  ]);
});

t.test('a guest agent says what the guest is, and who uses it', { skip }, async (t) => {
  const { domain } = await guest();
  const { virDomainGuestInfoTypes: types } = constants;
  const info = await domain.getGuestInfo(
    types.VIR_DOMAIN_GUEST_INFO_USERS | types.VIR_DOMAIN_GUEST_INFO_FILESYSTEM,
  );
  t.hasStrict(info, {
    'user.count': 1,
    'user.0.name': 'ada',
    'user.0.login-time': 1_700_000_000_500n,
    'fs.count': 1,
    'fs.0.total-bytes': 1_152_921_504_606_846_977n,
  });
  t.hasStrict(await domain.getGuestInfo(), { hostname: 'nad.example.org' });
  const { VIR_DOMAIN_GET_HOSTNAME_AGENT: fromAgent } = constants.virDomainGetHostnameFlags;
  t.equal(await domain.getHostname(fromAgent), 'nad.example.org');
});

t.test('a guest agent switches processors on', { skip }, async (t) => {
  const { agent, domain } = await guest();
  t.strictSame(await domain.getGuestVcpus(), { vcpus: '0-1', online: '0', offlinable: '1' });
  await domain.setGuestVcpus('1', true);
  t.strictSame(agent.lastArguments('guest-set-vcpus'), { vcpus: [{ 'logical-id': 1, online: true }] });
});

t.test('a guest agent reads and sets the clock', { skip }, async (t) => {
  const { agent, domain } = await guest();
  t.strictSame(await domain.getTime(), { seconds: 1_700_000_000n, nseconds: 123_456_789 });
  await domain.setTime(1_700_000_000n, 500_000_000);
  t.strictSame(agent.lastArguments('guest-set-time'), { time: 1_700_000_000.5e9 });
});

t.test('a guest agent lets users in', { skip }, async (t) => {
  const { agent, domain } = await guest();
  await domain.setUserPassword('ada', 'sésame');
  const password = Buffer.from('sésame').toString('base64');
  t.strictSame(agent.lastArguments('guest-set-user-password'), { username: 'ada', password, crypted: false });
  t.strictSame(await domain.authorizedSSHKeysGet('ada'), ['ssh-ed25519 AAAA one', 'ssh-ed25519 BBBB two']);
  await domain.authorizedSSHKeysSet('ada', ['ssh-ed25519 CCCC three']);
  t.strictSame(agent.lastArguments('guest-ssh-add-authorized-keys'), {
    username: 'ada',
    keys: ['ssh-ed25519 CCCC three'],
    reset: true,
  });
});

t.test('a guest agent tells the addresses of the guest', { skip }, async (t) => {
  const { domain } = await guest();
  const { VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT: fromAgent } = constants.virDomainInterfaceAddressesSource;
  t.strictSame(await domain.interfaceAddresses(fromAgent), [
    { name: 'lo', hwaddr: null, addrs: [] },
    {
      name: 'eth0',
      hwaddr: '52:54:00:6e:61:64',
      addrs: [{ type: constants.virIPAddrType.VIR_IP_ADDR_TYPE_IPV4, addr: '192.0.2.7', prefix: 24 }],
    },
  ]);
});

t.test('a guest agent sends the guest to sleep', { skip }, async (t) => {
  const { agent, domain } = await guest();
  await domain.pmSuspendForDuration(constants.virNodeSuspendTarget.VIR_NODE_SUSPEND_TARGET_MEM, 0);
  t.match(agent.commands.at(-1), { execute: 'guest-suspend-ram' });
});

t.test('a guest agent that does not answer is waited for as long as it may take', { skip }, async (t) => {
  const { agent, domain } = await guest();
  await domain.agentSetResponseTimeout(1);
  agent.isSilent = true;
  t.match(await failureOf(domain.getGuestVcpus()), {
    codeName: /^VIR_ERR_AGENT_(UNRESPONSIVE|COMMAND_TIMEOUT)$/,
  });
});

t.test('every method of Domain for the guest agent was called', { skip }, (t) => called.check(t));
