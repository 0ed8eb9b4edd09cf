/**
 * What guests can and cannot do on a bridge network, with real packets: guests, an outside and the host are
 * network namespaces, and a DHCP client asks for the addresses.
 *
 *   guest (busybox udhcpc) ── bt-… ── bb-… host ── uplink ── outside (198.51.100.2, no way back to guests)
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { tableName } from '../../../src/drivers/bridge/names.ts';
import type { NetworkPlan, PortPlan } from '../../../src/drivers/contracts/network.ts';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import { networkPlan, portPlan } from '../contract/network-rig.ts';
import {
  type BridgeRig,
  killDnsmasq,
  labLacks,
  makeBridgeRig,
  makeNamespace,
  type NamespaceExec,
} from './lab.ts';

const HOST_OUTSIDE_ADDRESS = '198.51.100.1';
const OUTSIDE_ADDRESS = '198.51.100.2';
/** The address of clouds' metadata services. */
const METADATA_ADDRESS = '169.254.169.254';
/** Seconds a ping waits; what is dropped takes all of it. */
const PING_SECONDS = '1';
/** A client asks this often, a second apart, before it gives up: the reservation may be read just then. */
const DHCP_ATTEMPTS = '10';
/** Tests that run at once, each on a host of its own. */
const JOBS = 4;

/** Configures the interface and prints what it was given. */
const DHCP_SCRIPT = `#!/bin/sh
[ "$1" = bound ] || exit 0
ip address replace "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route replace default via "$router"
echo "ip=$ip mask=$mask router=$router dns=$dns hostname=$hostname domain=$domain"
`;

/** Milliseconds for all: thousands of programs are started, slowly where the machine has other work. */
const TIMEOUT_MS = 600_000;

t.setTimeout(TIMEOUT_MS);
const lacking = await labLacks();
if (lacking !== false) t.plan(0, lacking);
else {
  t.test('addresses and names', { jobs: JOBS }, addressTests);
  t.test('changes', { jobs: JOBS }, changeTests);
  t.test('reach', { jobs: JOBS }, reachTests);
  t.test('closed ways', { jobs: JOBS }, closedTests);
}

async function addressTests(t: Test): Promise<void> {
  t.test('a guest gets the reserved address, the gateway, the resolver and its name', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 1);
    const guest = await plugGuest(t, rig, plan, port);
    t.equal(
      await askForAddress(t, guest),
      `ip=${port.ipAddress} mask=24 router=${plan.gatewayAddress} dns=${plan.gatewayAddress}` +
        ` hostname=${port.hostname} domain=${plan.name}.internal`,
    );
    const names = [port.hostname, `${port.hostname}.${plan.name}.internal`];
    for (const name of names) {
      const { stdout } = await guest.run('busybox', ['nslookup', name, plan.gatewayAddress]);
      t.match(stdout, port.ipAddress, `${name} is resolved`);
    }
  });

  t.test('a stranger on the bridge gets no address', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 2);
    const stranger = await plugGuest(t, rig, plan, portPlan(plan, 2));
    await t.rejects(askForAddress(t, stranger, '2'));
    t.ok(port);
  });

  t.test('given name servers are handed out, and the gateway answers no questions', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 7, { dnsServers: ['192.0.2.53', '192.0.2.54'] });
    const guest = await plugGuest(t, rig, plan, port);
    t.match(await askForAddress(t, guest), ' dns=192.0.2.53 192.0.2.54 ');
    const sockets = (await rig.exec.run('cat', ['/proc/net/udp'])).stdout;
    t.notMatch(sockets, /:0035 /, 'nothing listens on port 53');
  });

  t.test('an isolated network hands out addresses and no gateway', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 8, { nat: false });
    const guest = await plugGuest(t, rig, plan, port);
    t.match(await askForAddress(t, guest), `ip=${port.ipAddress} mask=24 router= dns=`);
  });
}

async function changeTests(t: Test): Promise<void> {
  t.test('a port that is added later is served without a restart', async (t) => {
    const { rig, plan } = await makeGuestNetwork(t, 3);
    const later = portPlan(plan, 9);
    const guest = await plugGuest(t, rig, plan, later);
    await rig.driver.ensurePort(plan, later);
    t.match(await askForAddress(t, guest), `ip=${later.ipAddress} `);
  });

  t.test(
    'a port that was removed is no longer served, and its address goes to the next at once',
    async (t) => {
      const { rig, plan, port } = await makeGuestNetwork(t, 4);
      const guest = await plugGuest(t, rig, plan, port);
      await askForAddress(t, guest);
      await rig.driver.removePort(plan, port);
      await t.rejects(askForAddress(t, guest, '2'), 'the old guest is refused');
      const next = portPlan(plan, 2, { ipAddress: port.ipAddress });
      const nextGuest = await plugGuest(t, rig, plan, next);
      await rig.driver.ensurePort(plan, next);
      t.match(await askForAddress(t, nextGuest), `ip=${port.ipAddress} `);
    },
  );

  t.test('a port whose address was changed is given the new one', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 5);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    await rig.driver.ensurePort(plan, { ...port, ipAddress: '10.203.5.99' });
    t.match(await askForAddress(t, guest), 'ip=10.203.5.99 ');
  });

  t.test('after dnsmasq was killed and the bridge taken away, mending serves guests again', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 6);
    await killDnsmasq(rig.stateDir, plan);
    await rig.driver.ensureNetwork(plan);
    const guest = await plugGuest(t, rig, plan, port);
    t.match(await askForAddress(t, guest), `ip=${port.ipAddress} `);
    await rig.exec.run('ip', ['link', 'delete', 'dev', plan.bridge]);
    await rig.driver.ensureNetwork(plan);
    await rig.exec.run('ip', ['link', 'set', 'dev', rig.driver.tapName(port.id), 'master', plan.bridge]);
    t.match(await askForAddress(t, guest), `ip=${port.ipAddress} `);
  });
}

async function reachTests(t: Test): Promise<void> {
  t.test('guests reach the outside by the host’s address, and the outside reaches no guest', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 21);
    const outside = await addOutside(t, rig);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    t.ok(await reaches(guest, OUTSIDE_ADDRESS), 'the outside knows no way to guests, so this is NAT');
    await outside.run('ip', ['route', 'add', plan.cidr, 'via', HOST_OUTSIDE_ADDRESS]);
    t.notOk(await reaches(outside, port.ipAddress), 'even where it knows the way');
    t.ok(await reaches(guest, OUTSIDE_ADDRESS));
  });

  t.test('guests never reach the metadata service of the cloud that the host is in', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 22);
    const outside = await addOutside(t, rig);
    await outside.run('ip', ['address', 'add', `${METADATA_ADDRESS}/32`, 'dev', 'uplink']);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    t.ok(await reaches(rig.exec, METADATA_ADDRESS), 'the host does');
    t.notOk(await reaches(guest, METADATA_ADDRESS));
  });

  t.test('guests that take an address of somebody else do not get out', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 23);
    const outside = await addOutside(t, rig);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    await guest.run('ip', ['address', 'add', '203.0.113.7/32', 'dev', 'eth0']);
    // Ways back, so that the rule alone is what stops it.
    await outside.run('ip', ['route', 'add', '203.0.113.7', 'via', HOST_OUTSIDE_ADDRESS]);
    await rig.exec.run('ip', ['route', 'add', '203.0.113.7', 'dev', plan.bridge]);
    t.notOk(await reaches(guest, OUTSIDE_ADDRESS, ['-I', '203.0.113.7']));
    t.ok(await reaches(guest, OUTSIDE_ADDRESS));
  });

  t.test('guests reach each other and their gateway, and the host reaches them', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 24);
    const guest = await plugGuest(t, rig, plan, port);
    const neighbourPort = portPlan(plan, 2);
    await rig.driver.ensurePort(plan, neighbourPort);
    const neighbour = await plugGuest(t, rig, plan, neighbourPort);
    await askForAddress(t, guest);
    await askForAddress(t, neighbour);
    t.ok(await reaches(guest, neighbourPort.ipAddress));
    t.ok(await reaches(guest, plan.gatewayAddress));
    t.ok(await reaches(rig.exec, port.ipAddress));
  });
}

async function closedTests(t: Test): Promise<void> {
  t.test('guests of one network reach neither guests nor the gateway of another', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 25);
    const other = networkPlan(rig.driver, 26);
    const otherPort = portPlan(other, 1);
    await rig.driver.ensureNetwork(other);
    await rig.driver.ensurePort(other, otherPort);
    const guest = await plugGuest(t, rig, plan, port);
    const otherGuest = await plugGuest(t, rig, other, otherPort);
    await askForAddress(t, guest);
    await askForAddress(t, otherGuest);
    t.ok(await reaches(rig.exec, otherPort.ipAddress), 'it is there');
    t.notOk(await reaches(guest, otherPort.ipAddress));
    t.notOk(await reaches(guest, other.gatewayAddress));
    await rig.exec.run('nft', ['delete', 'table', 'inet', tableName(other.id)]);
    t.notOk(await reaches(guest, otherPort.ipAddress), 'nor while the rules of the other are missing');
  });

  t.test('the host’s own services are closed to guests, on every address of it', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 27);
    await addOutside(t, rig);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    await serveOnHost(t, rig);
    t.ok(await connects(rig.exec, plan.gatewayAddress), 'the service runs');
    t.notOk(await connects(guest, plan.gatewayAddress));
    t.notOk(await connects(guest, HOST_OUTSIDE_ADDRESS));
    t.notOk(await reaches(guest, HOST_OUTSIDE_ADDRESS));
  });

  t.test('guests of an isolated network reach their gateway and nothing beyond', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 28, { nat: false });
    const outside = await addOutside(t, rig);
    await rig.exec.run('tee', ['/proc/sys/net/ipv4/ip_forward'], { input: '1' });
    await outside.run('ip', ['route', 'add', plan.cidr, 'via', HOST_OUTSIDE_ADDRESS]);
    const guest = await plugGuest(t, rig, plan, port);
    await askForAddress(t, guest);
    await guest.run('ip', ['route', 'add', 'default', 'via', plan.gatewayAddress]);
    t.ok(await reaches(guest, plan.gatewayAddress));
    t.notOk(await reaches(guest, OUTSIDE_ADDRESS));
    t.notOk(await reaches(outside, port.ipAddress));
  });

  t.test('the host takes no IPv6 address on the bridge', async (t) => {
    const { rig, plan, port } = await makeGuestNetwork(t, 29);
    await plugGuest(t, rig, plan, port);
    const { stdout } = await rig.exec.run('ip', ['-6', 'address', 'show', 'dev', plan.bridge]);
    t.equal(stdout, '');
  });
}

/** A present network with one port. */
async function makeGuestNetwork(t: Test, index: number, changes: Partial<NetworkPlan> = {}) {
  const rig = await makeBridgeRig(t);
  const plan = networkPlan(rig.driver, index, changes);
  const port = portPlan(plan, 1);
  await rig.driver.ensureNetwork(plan);
  await rig.driver.ensurePort(plan, port);
  return { rig, plan, port };
}

/** A guest's namespace, whose eth0 hangs on the bridge as the port's tap would. */
async function plugGuest(t: Test, rig: BridgeRig, plan: NetworkPlan, port: PortPlan): Promise<NamespaceExec> {
  const guest = await makeNamespace(t);
  const tap = rig.driver.tapName(port.id);
  const peer = ['peer', 'name', 'eth0', 'address', port.macAddress, 'netns', guest.namespace];
  await rig.exec.run('ip', ['link', 'add', 'name', tap, 'type', 'veth', ...peer]);
  await rig.exec.run('ip', ['link', 'set', 'dev', tap, 'master', plan.bridge, 'up']);
  await guest.run('ip', ['link', 'set', 'dev', 'eth0', 'up']);
  return guest;
}

/** Asks by DHCP until an address is given. @returns What was given, in one line. */
async function askForAddress(t: Test, guest: Exec, attempts = DHCP_ATTEMPTS): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'gbr-dhcp-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const script = join(directory, 'script');
  await writeFile(script, DHCP_SCRIPT);
  await chmod(script, 0o755);
  const args = [
    'udhcpc',
    '-i',
    'eth0',
    '-n',
    '-q',
    '-f',
    '-t',
    attempts,
    '-T',
    '1',
    '-O',
    'hostname',
    '-s',
    script,
  ];
  return (await guest.run('busybox', args)).stdout.trim();
}

async function reaches(from: Exec, address: string, options: string[] = []): Promise<boolean> {
  const args = ['ping', '-c', '1', '-W', PING_SECONDS, ...options, address];
  return (await from.run('busybox', args, { okCodes: [0, 1] })).exitCode === 0;
}

/** An outside with the host's default route to it. */
async function addOutside(t: Test, rig: BridgeRig): Promise<NamespaceExec> {
  const outside = await makeNamespace(t);
  const peer = ['peer', 'name', 'uplink', 'netns', outside.namespace];
  await rig.exec.run('ip', ['link', 'add', 'name', 'uplink', 'type', 'veth', ...peer]);
  await rig.exec.run('ip', ['address', 'add', `${HOST_OUTSIDE_ADDRESS}/24`, 'dev', 'uplink']);
  await outside.run('ip', ['address', 'add', `${OUTSIDE_ADDRESS}/24`, 'dev', 'uplink']);
  for (const exec of [rig.exec, outside]) await exec.run('ip', ['link', 'set', 'dev', 'uplink', 'up']);
  await rig.exec.run('ip', ['route', 'add', 'default', 'via', OUTSIDE_ADDRESS]);
  return outside;
}

/** Something that listens on every address of the host, port 2222, until the test ends. */
async function serveOnHost(t: Test, rig: BridgeRig): Promise<void> {
  const stop = new AbortController();
  const serving = rig.exec
    .run('busybox', ['nc', '-ll', '-p', '2222', '-e', 'true'], { signal: stop.signal })
    .catch(() => undefined);
  t.teardown(async () => {
    stop.abort();
    await serving;
  });
}

/** Tries for 2 s, as long as a first and a repeated SYN take. */
async function connects(from: Exec, address: string): Promise<boolean> {
  const args = ['nc', '-w', '2', address, '2222'];
  return (await from.run('busybox', args, { okCodes: [0, 1] })).exitCode === 0;
}
