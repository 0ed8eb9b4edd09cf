/**
 * What every implementation of NetworkDriver promises, as tests.
 *
 * A driver's own test file builds a rig (the driver and the hands that act on its host from outside) and
 * calls `networkContract`. Each test gets a rig of its own, on a host that holds nothing yet.
 */
import type { Test } from 'tap';
import type { NetworkPlan, PortPlan } from '../../../src/drivers/contracts/network.ts';
import { type NetworkRigMaker, networkPlan, portPlan, rejectsWith } from './network-rig.ts';
import { partRemovalTests, refusedRemovalTests, surveyTests } from './network-survey.ts';

/** Interface names that the kernel takes, IFNAMSIZ less its NUL. @see linux/if.h */
const INTERFACE_NAME_MAX = 15;
/** Prefixes of tap names that libvirt takes for its own and erases. @see virnetdev.h, VIR_NET_GENERATED_* */
const LIBVIRT_TAP_PREFIXES = ['vnet', 'vif', 'macvtap', 'macvlan'];

/** Tests that run at once, each on a host of its own: they mostly wait for the host's programs. */
const JOBS = 4;

/** Declares the whole suite below `t`, one subtest for each promise. */
export function networkContract(t: Test, name: string, makeRig: NetworkRigMaker): void {
  const parts = [
    nameTests,
    presenceTests,
    mendingTests,
    conflictTests,
    portTests,
    removalTests,
    surveyTests,
    partRemovalTests,
    refusedRemovalTests,
    planTests,
    doubtTests,
  ];
  t.test(`${name} keeps the network contract`, { jobs: JOBS }, async (t) => {
    for (const declare of parts) declare(t, makeRig);
  });
}

function nameTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('names of bridges and taps follow from the id and fit the kernel and libvirt', async (t) => {
    const { driver } = await makeRig(t);
    const ids = [0, 1, 2].map((index) => networkPlan(driver, index).id);
    const names = ids.flatMap((id) => [driver.bridgeName(id), driver.tapName(id)]);
    t.equal(new Set(names).size, names.length, 'no two are the same');
    for (const name of names) {
      t.match(name, /^[a-z][a-z0-9-]+$/);
      t.ok(name.length <= INTERFACE_NAME_MAX, `${name} is short enough`);
      t.notOk(
        LIBVIRT_TAP_PREFIXES.some((prefix) => name.startsWith(prefix)),
        `${name} is not one that libvirt erases`,
      );
    }
    t.equal(driver.bridgeName(ids[0]!), driver.bridgeName(ids[0]!), 'the same id, the same name');
  });

  t.test('an id that is no UUID has no name', async (t) => {
    const { driver } = await makeRig(t);
    for (const id of ['', '../etc', 'BE000000-1111-4222-8333-444455550000', 'be0000;reboot']) {
      t.throws(() => driver.bridgeName(id), { code: 'INVALID_ARGUMENT' });
      t.throws(() => driver.tapName(id), { code: 'INVALID_ARGUMENT' });
    }
  });
}

function presenceTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('features names bridge, nat and dhcp once each, and says why where one is not usable', async (t) => {
    const { driver } = await makeRig(t);
    const features = await driver.features();
    t.same(features.map(({ name }) => name).sort(), ['bridge', 'dhcp', 'nat']);
    for (const { usable, reason } of features) t.ok(usable || reason !== '', 'a reason');
  });

  t.test('a network is absent until it is ensured, then present, and present to a new driver', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 1);
    t.equal(await rig.driver.look(plan), 'absent');
    t.same(await rig.driver.list(), []);
    await rig.driver.ensureNetwork(plan);
    t.equal(await rig.driver.look(plan), 'present');
    t.same(await rig.driver.list(), [{ networkId: plan.id, bridge: plan.bridge }]);
    t.equal(await rig.reopen().look(plan), 'present');
    t.ok(await rig.hasBridge(plan.bridge));
  });

  t.test('ensuring a present network again is done', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 2);
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensureNetwork(plan);
    await rig.reopen().ensureNetwork(plan);
    t.equal(await rig.driver.look(plan), 'present');
  });

  t.test('every mixture of nat, dhcp and name servers can be ensured and removed', async (t) => {
    const rig = await makeRig(t);
    const choices = [true, false].flatMap((nat) =>
      [true, false].flatMap((dhcp) => [[], ['192.0.2.53']].map((dnsServers) => ({ nat, dhcp, dnsServers }))),
    );
    for (const [index, choice] of choices.entries()) {
      const plan = networkPlan(rig.driver, index, choice);
      await rig.driver.ensureNetwork(plan);
      t.equal(await rig.driver.look(plan), 'present', JSON.stringify(choice));
      await rig.driver.removeNetwork(plan);
    }
    t.same(await rig.leftovers(), []);
  });

  t.test('two networks are ensured at once and do not get into each other', async (t) => {
    const rig = await makeRig(t);
    const plans = [networkPlan(rig.driver, 3), networkPlan(rig.driver, 4)];
    await Promise.all(plans.map((plan) => rig.driver.ensureNetwork(plan)));
    for (const plan of plans) t.equal(await rig.driver.look(plan), 'present');
    t.equal((await rig.driver.list()).length, 2);
  });
}

function mendingTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a network that lacks a part is partial, and ensuring it mends it', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 5);
    const port = portPlan(plan, 1);
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensurePort(plan, port);
    t.not(Object.keys(rig.damages).length, 0, 'the rig can do damage');
    for (const [part, damage] of Object.entries(rig.damages)) {
      await damage(plan);
      t.equal(await rig.driver.look(plan), 'partial', `partial without ${part}`);
      await rig.driver.ensureNetwork(plan);
      t.equal(await rig.driver.look(plan), 'present', `mended: ${part}`);
    }
    t.equal(await rig.driver.lookPort(plan, port), true, 'mending keeps the ports');
  });

  t.test('a changed plan is partial until it is ensured', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 6);
    await rig.driver.ensureNetwork(plan);
    for (const changes of [{ dnsServers: ['192.0.2.53'] }, { dhcp: false }, { nat: false }]) {
      const changed = { ...plan, ...changes };
      t.equal(await rig.driver.look(changed), 'partial', JSON.stringify(changes));
      await rig.driver.ensureNetwork(changed);
      t.equal(await rig.driver.look(changed), 'present');
      await rig.driver.ensureNetwork(plan);
    }
  });
}

function conflictTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a bridge of our name without our mark is refused and left as it is', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 7);
    await rig.addForeignBridge(plan.bridge);
    t.equal(await rig.driver.look(plan), 'foreign');
    await rejectsWith(t, 'HOST_CONFLICT', rig.driver.ensureNetwork(plan));
    t.equal(await rig.driver.look(plan), 'foreign');
    t.same(await rig.driver.list(), []);
  });

  t.test('undoing a refused network is done and leaves the foreign bridge', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 8);
    await rig.addForeignBridge(plan.bridge);
    const before = await rig.leftovers();
    await rejectsWith(t, 'HOST_CONFLICT', rig.driver.ensureNetwork(plan));
    await rig.driver.removeNetwork(plan);
    t.ok(await rig.hasBridge(plan.bridge));
    t.same(await rig.leftovers(), before);
  });

  t.test('a network whose addresses are in use on the host is refused, and nothing is made', async (t) => {
    const rig = await makeRig(t);
    const first = networkPlan(rig.driver, 9);
    const second = networkPlan(rig.driver, 10, { cidr: '10.203.8.0/22', gatewayAddress: '10.203.8.1' });
    await rig.driver.ensureNetwork(first);
    const error = await rejectsWith(t, 'HOST_CONFLICT', rig.driver.ensureNetwork(second));
    t.match(error?.message, first.bridge, 'says what uses them');
    t.equal(await rig.driver.look(second), 'absent');
    t.equal(await rig.driver.look(first), 'present');
  });

  t.test('a plan that is malformed or contradicts itself is refused, and nothing is made', async (t) => {
    const rig = await makeRig(t);
    const bad: Partial<NetworkPlan>[] = [
      { id: 'x; reboot' },
      { bridge: '../../etc/passwd' },
      { bridge: 'bb-012345678901234567' },
      { name: 'a b' },
      { cidr: '10.203.11.0/24; flush ruleset' },
      { cidr: '10.203.11.7/24' },
      { gatewayAddress: '10.99.0.1' },
      { gatewayAddress: '10.203.11.0' },
      { gatewayAddress: '10.203.11.255' },
      { dnsServers: ['192.0.2.1\nport=53'] },
    ];
    for (const changes of bad) {
      const plan = networkPlan(rig.driver, 11, changes);
      await rejectsWith(t, 'INVALID_ARGUMENT', rig.driver.ensureNetwork(plan), JSON.stringify(changes));
    }
    t.same(await rig.leftovers(), []);
  });
}

function portTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a port is there once ensured, however often, and gone once removed', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 12);
    const port = portPlan(plan, 1);
    await rig.driver.ensureNetwork(plan);
    t.equal(await rig.driver.lookPort(plan, port), false);
    await rig.driver.ensurePort(plan, port);
    await rig.driver.ensurePort(plan, port);
    t.equal(await rig.driver.lookPort(plan, port), true);
    t.equal(await rig.reopen().lookPort(plan, port), true);
    await rig.driver.removePort(plan, port);
    await rig.driver.removePort(plan, port);
    t.equal(await rig.driver.lookPort(plan, port), false);
    t.equal(await rig.driver.look(plan), 'present');
  });

  t.test('a changed port is not there until it is ensured', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 13);
    const port = portPlan(plan, 1);
    const changed = { ...port, ipAddress: '10.203.13.77', hostname: 'renamed' };
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensurePort(plan, port);
    t.equal(await rig.driver.lookPort(plan, changed), false);
    await rig.driver.ensurePort(plan, changed);
    t.equal(await rig.driver.lookPort(plan, changed), true);
    t.equal(await rig.driver.lookPort(plan, port), false);
  });

  t.test('a port of a network that is not there cannot be ensured, and its removal is done', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 14);
    const port = portPlan(plan, 1);
    t.equal(await rig.driver.lookPort(plan, port), false);
    await rejectsWith(t, 'NOT_FOUND', rig.driver.ensurePort(plan, port));
    await rig.driver.removePort(plan, port);
    t.same(await rig.leftovers(), []);
  });

  t.test('a port that is malformed or lies outside its network is refused', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 15);
    await rig.driver.ensureNetwork(plan);
    const bad: Partial<PortPlan>[] = [
      { id: '../../tmp/x' },
      { macAddress: '52:54:00:00:00' },
      { macAddress: '53:54:00:00:00:01' },
      { ipAddress: '10.99.0.5' },
      { ipAddress: plan.gatewayAddress },
      { ipAddress: '10.203.15.255' },
      { hostname: 'a,b' },
      { hostname: 'a\nb' },
    ];
    for (const changes of bad) {
      const port = portPlan(plan, 1, changes);
      await rejectsWith(t, 'INVALID_ARGUMENT', rig.driver.ensurePort(plan, port), JSON.stringify(changes));
    }
    t.equal(await rig.driver.look(plan), 'present');
  });
}

function removalTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a removed network leaves nothing, ports included, and removing it again is done', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 16);
    await rig.driver.removeNetwork(plan);
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensurePort(plan, portPlan(plan, 1));
    await rig.driver.removeNetwork(plan);
    await rig.driver.removeNetwork(plan);
    t.equal(await rig.driver.look(plan), 'absent');
    t.same(await rig.driver.list(), []);
    t.same(await rig.leftovers(), []);
  });

  t.test('removing a network that lacks a part leaves nothing either', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 17);
    for (const [part, damage] of Object.entries(rig.damages)) {
      await rig.driver.ensureNetwork(plan);
      await damage(plan);
      await rig.driver.removeNetwork(plan);
      t.same(await rig.leftovers(), [], `removed without ${part}`);
    }
  });

  t.test('removing one network leaves the other one and its ports', async (t) => {
    const rig = await makeRig(t);
    const [kept, gone] = [networkPlan(rig.driver, 18), networkPlan(rig.driver, 19)];
    const port = portPlan(kept, 1);
    await rig.driver.ensureNetwork(kept);
    await rig.driver.ensurePort(kept, port);
    await rig.driver.ensureNetwork(gone);
    await rig.driver.removeNetwork(gone);
    t.equal(await rig.driver.look(kept), 'present');
    t.equal(await rig.driver.lookPort(kept, port), true);
  });

  t.test('a network with a device plugged in is not removed, and the device is named', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 20);
    await rig.driver.ensureNetwork(plan);
    const device = rig.driver.tapName(portPlan(plan, 1).id);
    const unplug = await rig.plugDevice(plan.bridge, device);
    const error = await rejectsWith(t, 'ILLEGAL_STATE', rig.driver.removeNetwork(plan));
    t.match(error?.message, device);
    t.equal(await rig.driver.look(plan), 'present');
    await unplug();
    await rig.driver.removeNetwork(plan);
    t.same(await rig.leftovers(), []);
  });
}

function planTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('the plan of each network is told, also to a new driver, until it is removed', async (t) => {
    const rig = await makeRig(t);
    t.same(await rig.driver.plans(), []);
    const plans = [3, 4].map((index) => networkPlan(rig.driver, index, { dnsServers: ['192.0.2.53'] }));
    for (const plan of plans) await rig.driver.ensureNetwork(plan);
    const told = plans.map((plan) => ({ networkId: plan.id, bridge: plan.bridge, present: true, plan }));
    t.same(await rig.reopen().plans(), told);
    for (const plan of plans) await rig.driver.removeNetwork(plan);
    t.same(await rig.driver.plans(), []);
  });

  t.test('a bridge without our mark has no plan', async (t) => {
    const rig = await makeRig(t);
    await rig.addForeignBridge(rig.driver.bridgeName(networkPlan(rig.driver, 5).id));
    t.same(await rig.driver.plans(), []);
  });
}

function doubtTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a host that cannot be asked is UNAVAILABLE, never absent, and loses nothing', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 21);
    await rig.driver.ensureNetwork(plan);
    const mend = await rig.cutOff();
    await rejectsWith(t, 'UNAVAILABLE', rig.driver.look(plan));
    await rejectsWith(t, 'UNAVAILABLE', rig.driver.list());
    await rejectsWith(t, 'UNAVAILABLE', rig.driver.survey());
    await rejectsWith(t, 'UNAVAILABLE', rig.driver.ensureNetwork(plan));
    await rejectsWith(t, 'UNAVAILABLE', rig.driver.removeNetwork(plan));
    await mend();
    t.equal(await rig.driver.look(plan), 'present');
  });

  t.test('a call that was cancelled before it began makes nothing', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 22);
    const signal = AbortSignal.abort();
    await rejectsWith(t, 'CANCELLED', rig.driver.ensureNetwork(plan, { signal }));
    await rejectsWith(t, 'CANCELLED', rig.driver.look(plan, { signal }));
    t.equal(await rig.driver.look(plan), 'absent');
    t.same(await rig.leftovers(), []);
  });
}
