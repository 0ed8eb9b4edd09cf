/** Promise 7: no driver call without an end, and no read that waits for one. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import type { ReadMethod } from '../../src/agent/api/dispatcher.ts';
import type { CallOptions } from '../../src/drivers/contracts/calls.ts';
import type { Drivers } from '../../src/drivers/contracts/drivers.ts';
import { SimClock } from '../../src/drivers/sim/index.ts';
import { METHODS, type MethodName, type Params } from '../../src/model/methods.ts';
import { healthIs, linked, pass } from './link/support/linked.ts';
import { IMAGE, prepare, readyAgent, type SimAgent, simAgent, spec } from './support/sim-agent.ts';

/** Deadline of a sim call that names none, ms: as src/drivers/sim/call.ts has it. */
const CALL_TIMEOUT_MS = 30_000;

/** node.enrol asks the scheduler, and has tests of its own. */
type HostRead = Exclude<ReadMethod, 'node.enrol'>;
type ReadParams = { [M in HostRead]: (sim: SimAgent) => Partial<Params<M>> };

/** Params for every read there is: one that is missing here does not compile. */
const READS: ReadParams = {
  'node.status': () => ({}),
  'node.doctor': () => ({}),
  'node.leaks': () => ({}),
  'node.foreign': () => ({}),
  'node.identity': () => ({}),
  'node.recover': () => ({ dryRun: true }),
  'node.backup': (sim) => ({ path: join(sim.folder, `backup-${randomUUID()}.sqlite`) }),
  'node.load': () => ({}),
  'inventory.get': () => ({}),
  'reservation.list': () => ({}),
  'reservation.create': () => ({ resources: { VCPU: 1 }, seconds: 60 }),
  'reservation.release': () => ({ id: randomUUID() }),
  'pool.list': () => ({}),
  'pool.show': () => ({ id: 'default' }),
  'instance.list': () => ({}),
  'instance.show': () => ({ id: 'web' }),
  'instance.console': () => ({ id: 'web' }),
  'image.list': () => ({}),
  'image.append': (sim) => ({ image: uploadedOf(sim) }),
  'image.show': () => ({ id: 'debian' }),
  'volume.list': () => ({}),
  'volume.show': () => ({ id: 'web-disk0' }),
  'snapshot.list': () => ({ id: 'web' }),
  'share.list': () => ({}),
  'share.show': () => ({ id: 'files' }),
  'backup.list': () => ({}),
  'network.list': () => ({}),
  'network.show': () => ({ id: 'default' }),
  'operation.list': () => ({}),
  'operation.get': (sim) => ({ id: anOperation(sim) }),
  'operation.cancel': (sim) => ({ id: anOperation(sim) }),
  'usage.list': () => ({}),
  'event.list': () => ({}),
  'audit.list': () => ({}),
  'audit.verify': () => ({}),
};

function anOperation(sim: SimAgent): string {
  return sim.agent.operations.list({ limit: 1 })[0]?.id as string;
}

/** The image of the upload that waits for bytes; one that none waits for, where there is none. */
function uploadedOf(sim: SimAgent): string {
  const [upload] = sim.agent.operations.list({ limit: 100 }).filter(({ kind }) => kind === 'image.upload');
  return upload?.target.id ?? randomUUID();
}

/** Such a read says in its summary that it looks at the host, or asks an object store. */
function looksAtHost(method: MethodName): boolean {
  return /\bhost\b|\bAsks the store\b/.test(METHODS[method].summary);
}

async function callsOf(sim: SimAgent, method: HostRead): Promise<number> {
  let calls = 0;
  const forget = sim.world.faults.onCall((_call, when) => {
    if (when === 'before') calls++;
  });
  await sim.agent.dispatcher.call(method, READS[method](sim), { role: 'admin' });
  forget();
  return calls;
}

t.test('no read makes a driver call but those that say so', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.run('share.create', { name: 'files' });
  await sim.call('image.upload', { name: 'mine', sizeBytes: 1 });
  // What the host uses is told once it was watched for so long.
  await sim.clock.advance(10_000);
  for (const method of Object.keys(READS) as HostRead[]) {
    const calls = await callsOf(sim, method);
    if (looksAtHost(method)) t.ok(calls > 0, `${method} looks at the host`);
    else t.equal(calls, 0, `${method} answers from memory and the store`);
  }
});

interface Recorded {
  name: string;
  beganMs: number;
  timeoutMs: number;
  endedMs: number | null;
}

/** Puts a record of every call around the drivers: when it began, and when it was over. */
function recording(clock: SimClock, calls: Recorded[]): (drivers: Drivers) => Drivers {
  const around = <T extends object>(driver: T, name: string): T =>
    new Proxy(driver, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          const answer: unknown = value.apply(target, args);
          if (!(answer instanceof Promise)) return answer;
          const { timeoutMs = CALL_TIMEOUT_MS } = (args.at(-1) ?? {}) as CallOptions;
          const beganMs = clock.monotonicMs();
          const call: Recorded = { name: `${name}.${String(property)}`, beganMs, timeoutMs, endedMs: null };
          calls.push(call);
          const end = () => {
            call.endedMs = clock.monotonicMs();
          };
          answer.then(end, end);
          return answer;
        };
      },
    });
  return ({ hypervisor, pool, pools, network, host, keys, objects }) => ({
    keys,
    objects,
    pools,
    hypervisor: around(hypervisor, 'hypervisor'),
    pool: around(pool, 'pool'),
    network: around(network, 'network'),
    host: around(host, 'host'),
  });
}

t.test('while every driver call hangs each ends by its deadline, and the agent answers', async (t) => {
  const calls: Recorded[] = [];
  const clock = new SimClock();
  const sim = await simAgent(t, { clock }, recording(clock, calls));
  await prepare(sim);
  for (const name of ['web', 'db', 'old', 'gone']) await sim.run('instance.create', { spec: spec(name) });
  await sim.run('instance.stop', { id: 'old', mode: 'forced' });
  await sim.run('volume.create', { name: 'data', sizeGib: 1 });
  await sim.run('share.create', { name: 'files' });
  await sim.run('network.create', { spec: { ...NETWORK, name: 'spare', cidr: '10.81.0.0/24' } });
  await sim.run('image.import', { name: 'spare', source: IMAGE });
  calls.length = 0;
  const release = sim.world.faults.hang('*');
  const begun = [
    await sim.call('instance.create', { spec: spec('new') }),
    await sim.call('instance.reboot', { id: 'web', mode: 'forced' }),
    await sim.call('instance.stop', { id: 'db' }),
    await sim.call('instance.start', { id: 'old' }),
    await sim.call('instance.delete', { id: 'gone' }),
    await sim.call('volume.create', { name: 'more', sizeGib: 1 }),
    await sim.call('volume.delete', { id: 'data' }),
    await sim.call('network.create', { spec: { ...NETWORK, name: 'more', cidr: '10.82.0.0/24' } }),
    await sim.call('network.delete', { id: 'spare' }),
    await sim.call('image.import', { name: 'more', source: IMAGE }),
    await sim.call('image.delete', { id: 'spare' }),
  ];
  const doctor = sim.agent.dispatcher.call('node.doctor', {}, { role: 'admin' });
  for (let minute = 0; minute < 20; minute++) {
    await sim.clock.advance(60_000);
    for (const method of Object.keys(READS) as HostRead[]) {
      if (looksAtHost(method) || method === 'operation.cancel') continue;
      t.equal(await callsOf(sim, method), 0, `${method} in minute ${minute}`);
    }
  }
  t.match(await doctor, { findings: [{ verdict: 'failure' }] });
  const late = calls.filter(({ beganMs, timeoutMs, endedMs }) => {
    const dueMs = beganMs + timeoutMs;
    return endedMs === null ? dueMs < sim.clock.monotonicMs() : endedMs > dueMs;
  });
  t.same(late, [], 'no call goes on after its deadline');
  const names = new Set(calls.map(({ name }) => name));
  t.ok(names.size >= 15, `${[...names].join(', ')} were made`);
  t.ok((await sim.call('node.status')).problems.length > 0, 'the status says what hangs');
  release();
  for (const { operation } of begun) t.ok((await sim.ended(operation.id)).endedAt, operation.kind);
  t.same(sim.world.mishaps, []);
  t.match((await sim.call('instance.show', { id: 'web' })).instance.power, { state: 'running' });
});

const NETWORK = { nat: true, dhcp: true, dnsServers: [] };

t.test('heartbeats go on while every driver call hangs', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 5 });
  await healthIs(link, 'ok');
  sim.world.faults.hang('*');
  await sim.call('volume.create', { name: 'data', sizeGib: 1 });
  const before = peer.heartbeats.length;
  for (let i = 0; i < 20; i++) {
    await pass(sim, 5_000);
    peer.say({ method: 'ack', params: { seq: 0 } });
    await pass(sim, 0);
  }
  t.ok(peer.heartbeats.length - before >= 19, `${peer.heartbeats.length - before} heartbeats in 100 s`);
  t.equal(link.health.state, 'ok');
});
