/**
 * The contract of Hypervisor, as tests: each implementation calls `hypervisorContract` and passes all of it.
 *
 * Driver-neutral: whatever a test needs from outside the contract (a guest that boots, what others do on the
 * host, a lost connection) comes from the bench. A bench that cannot do a thing says why, and the tests that
 * need it are skipped by that reason. Guests may be slow: one test alone waits for a guest to boot, the
 * others only power guests on, and every wait is for a condition, at most `patienceMs` of the bench's clock.
 */
import type { Test } from 'tap';
import type { GuestDefinition, GuestEvent } from '../../../src/drivers/contracts/hypervisor.ts';
import { ACCELERATIONS } from '../../../src/model/node.ts';
import { HostDevice, NumaNode } from '../../../src/model/topology.ts';
import { findFault } from '../../../src/model/validate.ts';
import { alarmTests } from './hypervisor-alarms.ts';
import { checkpointTests } from './hypervisor-checkpoints.ts';
import { diskTests } from './hypervisor-disks.ts';
import { layerTests } from './hypervisor-layers.ts';
import { nvramTests } from './hypervisor-nvram.ts';
import { shareTests } from './hypervisor-shares.ts';
import { usageTests } from './hypervisor-usage.ts';
import { ABSENT_ID, able, type MakeBench, powers, rejectsWith, until, watch } from './hypervisor-bench.ts';

/** Deadline given to a call that is expected to miss it, milliseconds: short, as the test waits for it. */
const MISSED_TIMEOUT_MS = 700;

/** Registers the whole suite as one subtest of `t`. */
export function hypervisorContract(t: Test, name: string, makeBench: MakeBench): void {
  t.test(`${name} keeps the contract of Hypervisor`, async (t) => {
    factTests(t, makeBench);
    definitionTests(t, makeBench);
    useTests(t, makeBench);
    absenceTests(t, makeBench);
    powerTests(t, makeBench);
    bootTests(t, makeBench);
    outsideTests(t, makeBench);
    alarmTests(t, makeBench);
    diskTests(t, makeBench);
    layerTests(t, makeBench);
    nvramTests(t, makeBench);
    shareTests(t, makeBench);
    checkpointTests(t, makeBench);
    usageTests(t, makeBench);
    foreignTests(t, makeBench);
    slownessTests(t, makeBench);
    doubtTests(t, makeBench);
  });
}

function factTests(t: Test, make: MakeBench): void {
  t.test('it says what it is, what it has, and that it is connected', async (t) => {
    const { hypervisor } = await make(t);
    const facts = await hypervisor.facts();
    t.ok(Number.isSafeInteger(facts.cpus) && facts.cpus > 0, 'CPUs');
    t.ok(Number.isSafeInteger(facts.memoryMib) && facts.memoryMib > 0, 'memory');
    t.ok(ACCELERATIONS.includes(facts.acceleration), 'acceleration');
    t.not(facts.accelerationReason, '', 'and its reason');
    t.ok(
      facts.traits.every((trait) => /^[A-Z][A-Z0-9_]*$/.test(trait)),
      'traits by their standard names',
    );
    const health = hypervisor.health();
    t.equal(health.connected, true);
    t.ok(Number.isFinite(health.since), 'since');
    for (const node of facts.numaNodes ?? []) t.equal(findFault(NumaNode, node), null, 'NUMA nodes');
  });

  t.test('it lists the devices of the host by address, and lets who listens go', async (t) => {
    const { hypervisor } = await make(t);
    const devices = await hypervisor.devices();
    const addresses = devices.map(({ address }) => address);
    t.same(addresses, [...new Set(addresses)].sort());
    for (const device of devices) t.equal(findFault(HostDevice, device), null);
    hypervisor.onDevices(() => t.fail('nothing has changed'))();
  });
}

function definitionTests(t: Test, make: MakeBench): void {
  t.test('a guest is defined, observed as it was defined, and undefined', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = { ...bench.definition(), metadata: awkwardMetadata() };
    const { id, name, vcpus, memoryMib, metadata } = definition;
    t.equal(await hypervisor.observeGuest(id), null);
    await hypervisor.define(definition);
    const observed = await hypervisor.observeGuest(id);
    t.match(observed, { id, name, ours: true, power: 'stopped', vcpus, memoryMib, metadata });
    t.equal(typeof observed?.reason, 'string');
    t.same(
      (await hypervisor.observe()).find((guest) => guest.id === id),
      observed,
      'the list says the same',
    );
    await hypervisor.undefine(id);
    t.equal(await hypervisor.observeGuest(id), null);
    t.notOk((await hypervisor.observe()).some((guest) => guest.id === id));
  });

  t.test('defining again is done, and brings the definition up to date', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    await hypervisor.define(definition);
    await hypervisor.define(definition);
    const changed = { ...definition, memoryMib: definition.memoryMib + 16, metadata: '{"generation":2}' };
    await hypervisor.define(changed);
    t.match(await hypervisor.observeGuest(definition.id), {
      power: 'stopped',
      memoryMib: changed.memoryMib,
      metadata: changed.metadata,
    });
    t.equal((await hypervisor.observe()).filter(({ id }) => id === definition.id).length, 1);
  });

  t.test('a name that another guest of ours has is refused', async (t) => {
    const bench = await make(t);
    const first = bench.definition();
    const second = { ...bench.definition(), name: first.name };
    await bench.hypervisor.define(first);
    await rejectsWith(t, 'ALREADY_EXISTS', bench.hypervisor.define(second));
    t.equal(await bench.hypervisor.observeGuest(second.id), null);
    t.match(await bench.hypervisor.observeGuest(first.id), { name: first.name });
  });
}

function useTests(t: Test, make: MakeBench): void {
  t.test(
    'what a guest names of the host is told, whether or not it runs, and no more once it is undefined',
    async (t) => {
      const bench = await make(t);
      const { hypervisor } = bench;
      const made = bench.definition();
      const console = '/nonexistent/console.log';
      const definition = {
        ...made,
        disks: [
          {
            serial: 'one',
            path: '/nonexistent/it&s <disk>.qcow2',
            format: 'qcow2',
            readOnly: false,
            backing: { path: '/nonexistent/base.qcow2', format: 'qcow2' },
          },
        ],
        nics: [{ macAddress: '52:54:00:12:34:56', bridge: 'bb-0123456789a', tapName: 'bt-0123456789a' }],
        consoleLogPath: console,
      } satisfies GuestDefinition;
      await hypervisor.define(definition);
      const use = (await hypervisor.uses()).find(({ id }) => id === definition.id);
      t.equal(use?.name, definition.name);
      t.same(use?.devices, ['bt-0123456789a']);
      const paths = definition.disks.flatMap(({ path, backing }) => [path, backing.path]);
      for (const path of [...paths, console]) {
        t.ok(use?.files.includes(path), path);
      }
      await hypervisor.undefine(definition.id);
      t.notOk((await hypervisor.uses()).some(({ id }) => id === definition.id));
    },
  );

  t.test('a running guest uses its disks, and a foreign one is told too', async (t) => {
    const bench = await make(t);
    const definition = bench.definition();
    await bench.hypervisor.define(definition);
    await bench.hypervisor.start(definition.id);
    const foreign = await bench.makeForeign();
    const uses = await bench.hypervisor.uses();
    const own = uses.find(({ id }) => id === definition.id);
    for (const { path } of definition.disks) t.ok(own?.files.includes(path));
    t.match(
      uses.find(({ id }) => id === foreign.id),
      { name: foreign.name },
    );
    await bench.hypervisor.destroy(definition.id);
  });

  t.test(
    'where files are kept for a guest follows from its name, and names none that is not there',
    async (t) => {
      const { hypervisor } = await make(t);
      const paths = hypervisor.keptPaths('berth-nobody');
      t.same(paths, hypervisor.keptPaths('berth-nobody'));
      for (const path of Object.values(paths)) t.match(path, /^\/.*berth-nobody/);
      const kept = await hypervisor.listKept();
      t.notOk(kept.some(({ path }) => Object.values(paths).includes(path)));
    },
  );
}

function absenceTests(t: Test, make: MakeBench): void {
  t.test('what is absent cannot be started or asked, and is destroyed and undefined already', async (t) => {
    const { hypervisor } = await make(t);
    await hypervisor.destroy(ABSENT_ID);
    await hypervisor.undefine(ABSENT_ID);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.start(ABSENT_ID));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.requestShutdown(ABSENT_ID));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.requestReboot(ABSENT_ID));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.reset(ABSENT_ID));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.guestAddresses(ABSENT_ID));
  });

  t.test('a stopped guest cannot be asked or reset, and is destroyed already', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    await hypervisor.define(definition);
    await hypervisor.destroy(id);
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.requestShutdown(id));
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.requestReboot(id));
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.reset(id));
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.guestAddresses(id));
    t.match(await hypervisor.observeGuest(id), { power: 'stopped' });
  });

  t.test('a guest that the host has no room for is not started', async (t) => {
    const bench = await make(t);
    const oversized = able(t, bench.oversized);
    if (oversized === null) return;
    const definition = oversized();
    await bench.hypervisor.define(definition);
    await rejectsWith(t, 'CAPACITY_EXCEEDED', bench.hypervisor.start(definition.id));
    t.match(await bench.hypervisor.observeGuest(definition.id), { power: 'stopped' });
  });
}

function powerTests(t: Test, make: MakeBench): void {
  t.test('a guest starts once, is kept from being undefined, and loses its plug once', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const seen = watch(hypervisor, id);
    await hypervisor.define(definition);
    await hypervisor.start(id);
    t.match(await hypervisor.observeGuest(id), { power: 'running', ours: true });
    await hypervisor.start(id);
    await hypervisor.define(definition);
    t.match(await hypervisor.observeGuest(id), { power: 'running', metadata: definition.metadata });
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.undefine(id));
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.guestAddresses(id, { timeoutMs: MISSED_TIMEOUT_MS }));
    await hypervisor.destroy(id);
    t.match(await hypervisor.observeGuest(id), { power: 'stopped', metadata: definition.metadata });
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
    await hypervisor.undefine(id);
    await until(t, bench, 'the event of its end', () => powers(seen).at(-1) === null);
    t.same(powers(seen), ['stopped', 'running', 'stopped', null], 'told in the order of what happened');
  });

  t.test('closing the driver and opening another one touches no guest', async (t) => {
    const bench = await make(t);
    const definition = bench.definition();
    const { id } = definition;
    await bench.hypervisor.define(definition);
    await bench.hypervisor.start(id);
    const before = await bench.hypervisor.observeGuest(id);
    await bench.hypervisor.close();
    await bench.hypervisor.close();
    await rejectsWith(t, 'UNAVAILABLE', bench.hypervisor.observeGuest(id));
    const second = await bench.reopen();
    t.same(await second.observeGuest(id), before);
    t.match(before, { power: 'running', metadata: definition.metadata });
    await second.destroy(id);
    await second.undefine(id);
  });
}

function bootTests(t: Test, make: MakeBench): void {
  t.test(
    'a booted guest goes through reset and reboot in its process, and shuts down when asked',
    async (t) => {
      const bench = await make(t);
      const hasBooted = able(t, bench.hasBooted);
      if (hasBooted === null) return;
      const { hypervisor } = bench;
      const definition = bench.definition();
      const { id } = definition;
      const seen = watch(hypervisor, id);
      const reboots = () => seen.filter(({ type }) => type === 'rebooted').length;
      await hypervisor.define(definition);
      await hypervisor.start(id);
      await until(t, bench, 'the guest to boot', () => hasBooted(id));
      await hypervisor.reset(id);
      await until(t, bench, 'the event of the reset', () => reboots() === 1);
      await until(t, bench, 'the guest to boot after its reset', () => hasBooted(id));
      await hypervisor.requestReboot(id);
      await until(t, bench, 'the event of the reboot', () => reboots() === 2);
      await until(t, bench, 'the guest to boot again', () => hasBooted(id));
      t.match(await hypervisor.observeGuest(id), { power: 'running' });
      await hypervisor.requestShutdown(id);
      await until(t, bench, 'the event of its stop', () => powers(seen).at(-1) === 'stopped');
      t.match(await hypervisor.observeGuest(id), { power: 'stopped', metadata: definition.metadata });
      t.notOk(powers(seen).includes('crashed'), 'never taken for crashed');
      await hypervisor.undefine(id);
    },
  );
}

function outsideTests(t: Test, make: MakeBench): void {
  t.test('what others do to a guest of ours is told and observed, and a paused one is resumed', async (t) => {
    const bench = await make(t);
    const { hypervisor, outside } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const seen = watch(hypervisor, id);
    await hypervisor.define(definition);
    await hypervisor.start(id);
    await outside.pause(id);
    await until(t, bench, 'the event of the pause', () => powers(seen).at(-1) === 'paused');
    t.match(await hypervisor.observeGuest(id), { power: 'paused' });
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.requestShutdown(id));
    await hypervisor.start(id);
    t.match(await hypervisor.observeGuest(id), { power: 'running' });
    await outside.stop(id);
    await until(t, bench, 'the event of the stop', () => powers(seen).at(-1) === 'stopped');
    t.match(await hypervisor.observeGuest(id), { power: 'stopped' });
    await outside.undefine(id);
    await until(t, bench, 'the event of its end', () => powers(seen).at(-1) === null);
    t.equal(await hypervisor.observeGuest(id), null);
  });
}

function foreignTests(t: Test, make: MakeBench): void {
  t.test('a foreign guest is observed, and every call that would change it is refused', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { id, name } = await bench.makeForeign();
    const before = await hypervisor.observeGuest(id);
    t.match(before, { id, name, ours: false, power: 'running', metadata: null });
    t.ok((await hypervisor.observe()).some((guest) => guest.id === id && !guest.ours));
    const mine = bench.definition();
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.define({ ...mine, id }));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.define({ ...mine, id, name }));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.define({ ...mine, name }));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.start(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.requestShutdown(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.requestReboot(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.reset(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.destroy(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.undefine(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.plugDisk(id, await bench.spareDisk()));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.unplugDisk(id, 'theirs'));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.growDisk(id, 'theirs', 1024 ** 3));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.limitDisk(id, 'theirs', null));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.copyDisks(id, { copies: [] }));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.flattenDisk(id, 'theirs'));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.stopCopy(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.checkpoints(id));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.forgetCheckpoints(id, null));
    t.same(await hypervisor.observeGuest(id), before, 'it is as it was');
    t.equal(await hypervisor.observeGuest(mine.id), null, 'and nothing else was made');
  });
}

function slownessTests(t: Test, make: MakeBench): void {
  t.test('a call that hangs delays no call about another guest, and ends at its deadline', async (t) => {
    const bench = await make(t);
    const freeze = able(t, bench.freeze);
    if (freeze === null) return;
    const { hypervisor } = bench;
    const [stuck, other] = [bench.definition(), bench.definition()];
    await hypervisor.define(stuck);
    await hypervisor.start(stuck.id);
    const thaw = await freeze(stuck.id);
    const order: string[] = [];
    const hanging = hypervisor.reset(stuck.id, { timeoutMs: bench.patienceMs });
    const settled = hanging.then(
      () => order.push('stuck'),
      () => order.push('stuck'),
    );
    await hypervisor.define(other);
    t.match(await hypervisor.observeGuest(other.id), { power: 'stopped' });
    await hypervisor.undefine(other.id);
    order.push('other');
    let missed: unknown = null;
    hypervisor.reset(stuck.id, { timeoutMs: MISSED_TIMEOUT_MS }).catch((error: unknown) => {
      missed = error;
    });
    await until(t, bench, 'the deadline', () => missed !== null);
    t.match(missed, { name: 'AgentError', code: 'DEADLINE_EXCEEDED' });
    await thaw();
    await settled;
    t.same(order, ['other', 'stuck']);
    await hypervisor.destroy(stuck.id);
    await hypervisor.undefine(stuck.id);
  });

  t.test('a call whose signal is aborted already is CANCELLED and does nothing', async (t) => {
    const bench = await make(t);
    const definition = bench.definition();
    const signal = AbortSignal.abort();
    await rejectsWith(t, 'CANCELLED', bench.hypervisor.define(definition, { signal }));
    await rejectsWith(t, 'CANCELLED', bench.hypervisor.observe({ signal }));
    t.equal(await bench.hypervisor.observeGuest(definition.id), null);
  });
}

function doubtTests(t: Test, make: MakeBench): void {
  t.test('a host that cannot be asked is UNAVAILABLE, never absent, and then there is one gap', async (t) => {
    const bench = await make(t);
    const cutOff = able(t, bench.cutOff);
    if (cutOff === null) return;
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    await hypervisor.define(definition);
    await hypervisor.start(id);
    const heard: boolean[] = [];
    hypervisor.onHealth(({ connected }) => void heard.push(connected));
    const told: GuestEvent[] = [];
    hypervisor.subscribe((event) => void told.push(event));
    const gaps = () => told.filter(({ type }) => type === 'gap').length;
    const restore = await cutOff();
    await until(t, bench, 'the loss to be noticed', () => !hypervisor.health().connected);
    t.not(hypervisor.health().reason, '', 'says why');
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.observe());
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.observeGuest(id));
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.observeGuest(ABSENT_ID));
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.destroy(id));
    await rejectsWith(t, 'UNAVAILABLE', hypervisor.undefine(ABSENT_ID));
    await restore();
    await until(t, bench, 'the connection and the gap', () => hypervisor.health().connected && gaps() > 0);
    t.same(heard, [false, true]);
    t.match(await hypervisor.observeGuest(id), { power: 'running', metadata: definition.metadata });
    t.equal(gaps(), 1, 'one gap');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });

  t.test('a subscription that has ended hears nothing, and ending it again is harmless', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const [ended, kept]: GuestEvent[][] = [[], []];
    const unsubscribe = hypervisor.subscribe((event) => void ended!.push(event));
    hypervisor.subscribe((event) => void kept!.push(event));
    unsubscribe();
    unsubscribe();
    await hypervisor.define(definition);
    await until(t, bench, 'the other listener to hear', () => kept!.length > 0);
    t.same(ended, []);
  });
}

/** JSON that XML and shells could trip over. */
function awkwardMetadata(): string {
  return JSON.stringify({ text: `<a b="c">&amp; ]]> 'quoted' "too"</a>\n\tπ 🐢 \\`, list: [1, null, true] });
}
