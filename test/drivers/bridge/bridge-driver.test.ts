/**
 * The bridge driver on the real kernel: what it promises beyond the contract.
 */
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { BridgeDriver } from '../../../src/drivers/bridge/bridge-driver.ts';
import { bridgeAlias, bridgeHardwareAddress, networkFiles } from '../../../src/drivers/bridge/names.ts';
import { networkPlan, portPlan } from '../contract/network-rig.ts';
import { dnsmasqPids, labLacks, makeBridgeRig } from './lab.ts';

/** Tests that run at once, each on a host of its own. */
const JOBS = 4;

/** Milliseconds for all: thousands of programs are started, slowly where the machine has other work. */
const TIMEOUT_MS = 600_000;

t.setTimeout(TIMEOUT_MS);
const lacking = await labLacks();
if (lacking !== false) t.plan(0, lacking);
else {
  t.test('bridge', { jobs: JOBS }, bridgeTests);
  t.test('plans', { jobs: JOBS }, planTests);
  t.test('dnsmasq', { jobs: JOBS }, dnsmasqTests);
  t.test('host', { jobs: JOBS }, hostTests);
}

async function bridgeTests(t: Test): Promise<void> {
  t.test('a bridge whose maker crashed before its alias is ours, partial, and mended', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    const plan = networkPlan(driver, 1);
    const address = bridgeHardwareAddress(plan.id);
    await exec.run('ip', ['link', 'add', 'name', plan.bridge, 'address', address, 'type', 'bridge']);
    t.equal(await driver.look(plan), 'partial');
    await driver.ensureNetwork(plan);
    t.equal(await driver.look(plan), 'present');
    const { stdout } = await exec.run('ip', ['-json', 'link', 'show', 'dev', plan.bridge]);
    t.match(JSON.parse(stdout), [{ ifalias: bridgeAlias(plan.id), address }]);
  });

  t.test('a half-made bridge is removed too', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 2);
    const address = bridgeHardwareAddress(plan.id);
    await rig.exec.run('ip', ['link', 'add', 'name', plan.bridge, 'address', address, 'type', 'bridge']);
    await rig.driver.removeNetwork(plan);
    t.same(await rig.leftovers(), []);
  });

  t.test('a bridge that bears the mark of another network is foreign', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    const plan = networkPlan(driver, 3);
    const address = bridgeHardwareAddress(plan.id);
    await exec.run('ip', ['link', 'add', 'name', plan.bridge, 'address', address, 'type', 'bridge']);
    const alias = bridgeAlias(networkPlan(driver, 4).id);
    await exec.run('ip', ['link', 'set', 'dev', plan.bridge, 'alias', alias]);
    t.equal(await driver.look(plan), 'foreign');
    await t.rejects(driver.ensureNetwork(plan), { code: 'HOST_CONFLICT' });
  });

  t.test('a device of our name that is no bridge is foreign', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    const plan = networkPlan(driver, 5);
    await exec.run('ip', ['link', 'add', 'name', plan.bridge, 'type', 'veth', 'peer', 'name', 'other']);
    t.equal(await driver.look(plan), 'foreign');
    await driver.removeNetwork(plan);
    await exec.run('ip', ['link', 'show', 'dev', plan.bridge]);
  });
}

async function planTests(t: Test): Promise<void> {
  t.test('a plan that is broken, of another network or no plan at all is not told', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 13);
    await rig.driver.ensureNetwork(plan);
    const path = networkFiles(rig.stateDir, plan.id).plan;
    const bad = ['{', JSON.stringify({ ...plan, id: networkPlan(rig.driver, 14).id }), ' '.repeat(5_000)];
    for (const text of [...bad, JSON.stringify({ ...plan, gatewayAddress: '192.0.2.1' })]) {
      await writeFile(path, text);
      t.match(await rig.driver.plans(), [{ networkId: plan.id, present: true, plan: null }]);
      t.equal(await rig.driver.look(plan), 'partial', 'and it is mended');
    }
    const before = await dnsmasqPids(rig.stateDir);
    await rig.driver.ensureNetwork(plan);
    t.match(await rig.driver.plans(), [{ networkId: plan.id, plan }]);
    t.same(await dnsmasqPids(rig.stateDir), before, 'without a restart of its dnsmasq');
  });
}

async function dnsmasqTests(t: Test): Promise<void> {
  t.test('a dnsmasq whose pid file is lost is known by its command line', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 6);
    await rig.driver.ensureNetwork(plan);
    const before = await dnsmasqPids(rig.stateDir);
    await rm(networkFiles(rig.stateDir, plan.id).pid);
    t.equal(await rig.driver.look(plan), 'present');
    await rig.driver.ensureNetwork(plan);
    t.same(await dnsmasqPids(rig.stateDir), before, 'it was left running');
    await rig.driver.removeNetwork(plan);
    t.same(await rig.leftovers(), []);
  });

  t.test('a pid file that names another process is not believed, and that process lives', async (t) => {
    const rig = await makeBridgeRig(t);
    const [plan, other] = [networkPlan(rig.driver, 7), networkPlan(rig.driver, 8)];
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensureNetwork(other);
    const [otherPid] = await dnsmasqPids(networkFiles(rig.stateDir, other.id).directory);
    const { pid } = networkFiles(rig.stateDir, plan.id);
    await rig.exec.run('tee', [pid], { input: `${otherPid}\n` });
    await rig.driver.removeNetwork(plan);
    t.same(await dnsmasqPids(rig.stateDir), [otherPid]);
    t.equal(await rig.driver.look(other), 'present');
  });

  t.test('ensuring a present network leaves its dnsmasq running', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 9);
    await rig.driver.ensureNetwork(plan);
    const before = await dnsmasqPids(rig.stateDir);
    await rig.reopen().ensureNetwork(plan);
    t.same(await dnsmasqPids(rig.stateDir), before);
    t.equal(before.length, 1);
  });

  t.test('a server that holds port 53 everywhere is HOST_CONFLICT with a hint', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 10);
    const config = join(rig.stateDir, 'blocker.conf');
    await rig.exec.run('tee', [config], { input: `pid-file=${rig.stateDir}/blocker.pid\nno-resolv\n` });
    await rig.exec.run('dnsmasq', [`--conf-file=${config}`]);
    await t.rejects(rig.driver.ensureNetwork(plan), { code: 'HOST_CONFLICT', hint: /53/ });
    await rig.driver.removeNetwork(plan);
    t.equal((await dnsmasqPids(rig.stateDir)).length, 1, 'the other server lives');
  });

  t.test('dnsmasq runs as an unprivileged user and can read every reservation', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 11);
    await rig.driver.ensureNetwork(plan);
    const [pid] = await dnsmasqPids(rig.stateDir);
    t.notMatch(await readFile(`/proc/${pid}/status`, 'utf8'), /^Uid:\t0\t/m);
    await Promise.all([1, 2, 3, 4].map((n) => rig.driver.ensurePort(plan, portPlan(plan, n))));
    const { hosts } = networkFiles(rig.stateDir, plan.id);
    t.equal((await readdir(hosts)).length, 4, 'ports added at once do not get into each other');
  });

  t.test('a state folder that dnsmasq cannot reach is refused with the folder and a hint', async (t) => {
    const rig = await makeBridgeRig(t);
    await chmod(rig.stateDir, 0o700);
    const plan = networkPlan(rig.driver, 12);
    await t.rejects(rig.driver.ensureNetwork(plan), { code: 'HOST_CONFLICT', message: rig.stateDir });
    await rig.driver.removeNetwork(plan);
    t.same(await rig.leftovers(), []);
  });
}

async function hostTests(t: Test): Promise<void> {
  t.test('a route or an address of the host is in the way, even on a device that is down', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    const plan = networkPlan(driver, 13);
    await exec.run('ip', ['link', 'add', 'name', 'gbr-dummy', 'type', 'bridge']);
    await exec.run('ip', ['address', 'add', '10.203.13.200/30', 'dev', 'gbr-dummy']);
    await t.rejects(driver.ensureNetwork(plan), { code: 'HOST_CONFLICT', message: /gbr-dummy/ });
    await exec.run('ip', ['address', 'flush', 'dev', 'gbr-dummy']);
    await exec.run('ip', ['link', 'set', 'dev', 'gbr-dummy', 'up']);
    await exec.run('ip', ['route', 'add', '10.203.0.0/16', 'dev', 'gbr-dummy', 'table', '77']);
    await t.rejects(driver.ensureNetwork(plan), { code: 'HOST_CONFLICT', message: /10\.203\.0\.0\/16/ });
  });

  t.test('default routes and routes to nowhere are in nobody’s way', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    const plan = networkPlan(driver, 14);
    await exec.run('ip', ['route', 'add', 'blackhole', '10.0.0.0/8']);
    await exec.run('ip', ['link', 'add', 'name', 'gbr-dummy', 'type', 'bridge']);
    await exec.run('ip', ['link', 'set', 'dev', 'gbr-dummy', 'up']);
    await exec.run('ip', ['route', 'add', 'default', 'dev', 'gbr-dummy']);
    await exec.run('ip', ['route', 'add', '0.0.0.0/1', 'dev', 'gbr-dummy']);
    await driver.ensureNetwork(plan);
    t.equal(await driver.look(plan), 'present');
  });

  t.test('other rules of the host stay as they are', async (t) => {
    const rig = await makeBridgeRig(t);
    const plan = networkPlan(rig.driver, 15);
    await rig.exec.run('nft', ['add', 'table', 'inet', 'filter']);
    await rig.driver.ensureNetwork(plan);
    await rig.driver.removeNetwork(plan);
    t.same(await rig.leftovers(), ['table inet filter {']);
  });

  t.test('forwarding is left alone by a network without NAT', async (t) => {
    const { driver, exec } = await makeBridgeRig(t);
    await driver.ensureNetwork(networkPlan(driver, 16, { nat: false }));
    t.equal((await exec.run('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout, '0\n');
  });

  t.test('features are found usable here, and trying them leaves nothing', async (t) => {
    const rig = await makeBridgeRig(t);
    const features = await rig.driver.features();
    t.same(
      features.map(({ usable }) => usable),
      [true, true, true],
    );
    t.same(await rig.leftovers(), []);
  });

  t.test('features that cannot be used say why, and are tried again', async (t) => {
    const rig = await makeBridgeRig(t);
    const mend = await rig.cutOff();
    for (const { usable, reason } of await rig.driver.features()) {
      t.notOk(usable);
      t.match(reason, 'Cannot');
    }
    await mend();
    t.ok((await rig.driver.features()).every(({ usable }) => usable));
  });

  t.test('a deadline that has passed ends the call with DEADLINE_EXCEEDED', async (t) => {
    const { driver } = await makeBridgeRig(t);
    await t.rejects(driver.look(networkPlan(driver, 17), { timeoutMs: 0 }), { code: 'DEADLINE_EXCEEDED' });
  });

  t.test('a state folder that would need quoting is refused', async (t) => {
    const { exec } = await makeBridgeRig(t);
    for (const stateDir of ['relative', '/a b', '/a\nport=53', '']) {
      t.throws(() => new BridgeDriver({ exec, stateDir }), { code: 'INVALID_ARGUMENT' });
    }
  });
}
