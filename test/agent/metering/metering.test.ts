/**
 * What an agent records of what is used, on a simulated host: over crashes, restarts, changes and deletes.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CPU_NS_PER_VCPU_MS } from '../../../src/drivers/sim/usage.ts';
import { serialOf } from '../../../src/agent/instances/plan.ts';
import type { InstanceUsage, UsageRecord, VolumeUsage } from '../../../src/model/usage.ts';
import { prepare, readyAgent, type SimAgent, simAgent, spec } from '../support/sim-agent.ts';
import { deleteDatabase } from '../support/state.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

async function records(sim: SimAgent, object?: string): Promise<UsageRecord[]> {
  return (await sim.call('usage.list', object === undefined ? {} : { object })).records;
}

function sumOf<K extends keyof InstanceUsage>(list: readonly UsageRecord[], name: K): number {
  return list.reduce((sum, { instance }) => sum + (instance?.[name] ?? 0), 0);
}

function volumeSumOf<K extends keyof VolumeUsage>(list: readonly UsageRecord[], name: K): number {
  return list.reduce((sum, { volume }) => sum + (volume?.[name] ?? 0), 0);
}

/** Lets time pass until a little after the next full hour. */
async function untilNextHour(sim: SimAgent): Promise<void> {
  const nowMs = sim.clock.now();
  await sim.clock.advance(HOUR_MS - (nowMs % HOUR_MS) + 1_000);
}

function readySince({ agent }: SimAgent, name: string): number {
  const { store } = agent.services;
  const { id } = store.instances.get(name);
  const event = store.events.after(0, 10_000).find(({ type, target, data }) => {
    const { lifecycle } = (data['instance'] ?? {}) as { lifecycle?: string };
    return type === 'instance.changed' && target?.id === id && lifecycle === 'ready';
  });
  return Date.parse(event?.at ?? '');
}

t.test('an instance and its disk are in one record each for a period, to the millisecond', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { vcpus: 2 }) });
  const sinceMs = readySince(sim, 'web');
  await untilNextHour(sim);
  const [web, ...others] = await records(sim, 'web');
  t.same(others, []);
  const hourMs = Date.parse(web?.periodEnd ?? '');
  t.equal(hourMs % HOUR_MS, 0, 'periods are hours of UTC');
  const seconds = (hourMs - sinceMs) / 1000;
  t.match(web, {
    kind: 'instance',
    startedAt: new Date(sinceMs).toISOString(),
    endedAt: web?.periodEnd,
    existedSeconds: seconds,
    instance: {
      allocatedVcpuSeconds: seconds * 2,
      allocatedMemoryMibSeconds: seconds * 512,
      runningSeconds: seconds,
    },
    volume: null,
    incomplete: [],
  });
  const [disk] = await records(sim, 'web-disk0');
  t.match(disk, { kind: 'volume', instance: null, volume: { provisionedGibSeconds: seconds * 4 } });
  await untilNextHour(sim);
  const [, next] = await records(sim, 'web');
  t.match(next, { startedAt: web?.periodEnd, existedSeconds: 3600, incomplete: [] });
  t.not(next?.id, web?.id);
  t.ok(sumOf([web as UsageRecord], 'residentMemoryMibSeconds') > 0);
});

t.test('counters are in the records once each, over crashes of berthd', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { id, disks, nics } = sim.agent.services.store.instances.get('web');
  const serial = serialOf(disks[0]?.volumeId as string);
  const tap = nics[0]?.tapName as string;
  for (let round = 0; round < 5; round++) {
    sim.world.outside.useDisk(id, serial, { writeRequests: 1, writtenBytes: 1_000, readBytes: 7 });
    sim.world.outside.useNic(id, tap, { receivedBytes: 10, sentBytes: 3, sentPackets: 1 });
    await sim.clock.advance(17 * MINUTE_MS);
    await sim.crash();
    sim.world.outside.useDisk(id, serial, { writtenBytes: 500 });
    await sim.clock.advance(31_000);
    await sim.restart();
  }
  await untilNextHour(sim);
  const web = await records(sim, 'web');
  const disk = await records(sim, 'web-disk0');
  t.equal(volumeSumOf(disk, 'writtenBytes'), 5 * 1_500);
  t.equal(volumeSumOf(disk, 'writeRequests'), 5);
  t.equal(volumeSumOf(disk, 'readBytes'), 5 * 7);
  t.equal(sumOf(web, 'networkReceivedBytes'), 50);
  t.equal(sumOf(web, 'networkSentBytes'), 15);
  const { live } = sim.world.guests.get(id) as { live: { usage: { runsSinceMs: number } } };
  const ranMs = Date.parse(web.at(-1)?.measuredUntil as string) - live.usage.runsSinceMs;
  const cpuNs = Math.round(sumOf(web, 'cpuSeconds') * 1e9);
  const missedMs = cpuNs / CPU_NS_PER_VCPU_MS - ranMs;
  t.ok(missedMs >= 0 && missedMs < 1_000, 'all that its process had taken at the last reading');
  const existed = web.reduce((sum, { existedSeconds }) => sum + existedSeconds, 0);
  t.equal(sumOf(web, 'runningSeconds'), existed, 'and it is known to have run all the time');
  t.same(
    web.flatMap(({ incomplete }) => incomplete),
    [],
  );
});

t.test('a guest that ends unread is told as incomplete; one that is stopped by us is not', async (t) => {
  const sim = await readyAgent(t);
  for (const name of ['ours', 'theirs']) await sim.run('instance.create', { spec: spec(name) });
  await untilNextHour(sim);
  await sim.clock.advance(25_000);
  await sim.run('instance.stop', { id: 'ours', mode: 'forced' });
  sim.world.outside.stop(sim.agent.services.store.instances.get('theirs').id);
  await untilNextHour(sim);
  const [, ours] = await records(sim, 'ours');
  const [, theirs] = await records(sim, 'theirs');
  t.same(ours?.incomplete, []);
  t.match(theirs?.incomplete, [{ reason: 'end-not-read' }]);
  const [gap] = theirs?.incomplete ?? [];
  t.ok((gap?.seconds ?? 0) <= 60, 'by no more than the pause between two readings');
  const [, disk] = await records(sim, 'theirs-disk0');
  t.match(disk?.incomplete, [{ reason: 'end-not-read' }], 'so is what it has written');
});

t.test('a guest that was restarted while nobody looked is not mistaken for the one before', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  const { id } = sim.agent.services.store.instances.get('web');
  await untilNextHour(sim);
  await sim.crash();
  await sim.clock.advance(10 * MINUTE_MS);
  sim.world.outside.crash(id);
  sim.world.outside.start(id);
  await sim.clock.advance(20 * MINUTE_MS);
  await sim.restart();
  await untilNextHour(sim);
  const [, web] = await records(sim, 'web');
  const reasons = web?.incomplete.map(({ reason }) => reason);
  t.same(reasons, ['end-not-read', 'unobserved']);
  const runMs = sumOf([web as UsageRecord], 'runningSeconds') * 1000;
  t.ok(runMs < HOUR_MS - 29 * MINUTE_MS, 'what nobody saw is not held against its user');
  t.equal(web?.existedSeconds, 3600, 'it was there all the time');
  const cpuMs = (sumOf([web as UsageRecord], 'cpuSeconds') * 1e9) / CPU_NS_PER_VCPU_MS;
  t.ok(cpuMs > 45 * MINUTE_MS && cpuMs < HOUR_MS, 'all of the new process, and none of the old one twice');
});

t.test('a volume that grows, and an instance that is deleted, are counted to that moment', async (t) => {
  const sim = await readyAgent(t);
  await untilNextHour(sim);
  await sim.run('volume.create', { name: 'data', sizeGib: 10 });
  await sim.clock.advance(13 * MINUTE_MS + 123);
  const { store } = sim.agent.services;
  const timeOf = (type: string) =>
    Date.parse(store.events.after(0, 10_000).find((event) => event.type === type)?.at ?? '');
  await sim.run('volume.grow', { id: 'data', sizeGib: 30 });
  await sim.run('instance.create', { spec: spec('short') });
  const shortMs = readySince(sim, 'short');
  await sim.clock.advance(9 * MINUTE_MS + 77);
  await sim.run('instance.delete', { id: 'short' });
  await untilNextHour(sim);
  const [data] = await records(sim, 'data');
  const hourMs = Date.parse(data?.periodEnd ?? '');
  const [madeMs, grownMs, goneMs] = [
    timeOf('volume.created'),
    timeOf('volume.changed'),
    timeOf('instance.deleted'),
  ];
  const gibMs = (grownMs - madeMs) * 10 + (hourMs - grownMs) * 30;
  t.equal(data?.volume?.provisionedGibSeconds, gibMs / 1000);
  const [short, ...more] = await records(sim, 'short');
  t.same(more, []);
  t.match(short, { endedAt: new Date(goneMs).toISOString(), existedSeconds: (goneMs - shortMs) / 1000 });
  const [disk] = await records(sim, 'short-disk0');
  t.match(disk, { endedAt: new Date(goneMs).toISOString() });
  await untilNextHour(sim);
  t.equal((await records(sim, 'short')).length, 1, 'and are in no later record');
});

t.test('an instance that could not be made is in no record', async (t) => {
  const sim = await readyAgent(t);
  sim.world.faults.fail('hypervisor.start', { times: 100 } as never);
  const operation = await sim.run('instance.create', { spec: spec('broken') });
  t.not(operation.state, 'succeeded');
  await untilNextHour(sim);
  t.same(await records(sim, 'broken'), []);
});

t.test('records are told as events, once each by id, and anew until they are acknowledged', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  for (let hour = 0; hour < 3; hour++) await untilNextHour(sim);
  const events = sim.agent.services.store.events.after(0, 10_000);
  const told = events
    .filter(({ type }) => type === 'usage.recorded')
    .flatMap(({ data }) => data['records'] as UsageRecord[]);
  t.same(told, await records(sim), 'all of them, as they are listed');
  t.equal(new Set(told.map(({ id }) => id)).size, told.length);
});

t.test('while the hypervisor is away periods end all the same, and the counters come later', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await untilNextHour(sim);
  await sim.clock.advance(10 * MINUTE_MS);
  const restore = sim.world.faults.cutOff('hypervisor');
  await untilNextHour(sim);
  await sim.clock.advance(10 * MINUTE_MS);
  restore();
  await untilNextHour(sim);
  const [, away, back] = await records(sim, 'web');
  t.match(away?.incomplete, [{ reason: 'not-read' }]);
  t.equal(away?.existedSeconds, 3600);
  t.ok(
    (back?.measuredFrom ?? '') < (back?.periodStart ?? ''),
    'the next one says from when its counters are',
  );
  t.same(back?.incomplete, []);
  const all = await records(sim, 'web');
  const existed = all.reduce((sum, { existedSeconds }) => sum + existedSeconds, 0);
  t.equal(sumOf(all, 'runningSeconds'), existed, 'it has run all the time, as its process proves');
});

t.test('a database that is lost counts anew, and says so', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await untilNextHour(sim);
  await sim.clock.advance(20 * MINUTE_MS);
  await sim.crash();
  deleteDatabase(sim);
  await sim.restart();
  await untilNextHour(sim);
  const [web] = await records(sim, 'web');
  t.match(web?.incomplete, [{ reason: 'began-late' }]);
  const cpuMs = (sumOf([web as UsageRecord], 'cpuSeconds') * 1e9) / CPU_NS_PER_VCPU_MS;
  t.ok(cpuMs <= 41 * MINUTE_MS, 'what it used before is not counted again');
});

t.test('a database that is older than what was told of it tells nothing twice', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await untilNextHour(sim);
  const toldMs = sim.clock.now() + 5 * HOUR_MS;
  await sim.crash();
  writeFileSync(join(sim.folder, 'metering.json'), JSON.stringify({ version: 1, toldUntilMs: toldMs }));
  await sim.restart();
  await untilNextHour(sim);
  const web = (await records(sim, 'web')).at(-1);
  t.match(web?.incomplete, [{ reason: 'began-late' }]);
  t.ok(sim.logged.some(({ message }) => message.startsWith('THE DATABASE IS OLDER')));
});

t.test('a file of the last told period that is none is as good as no file', async (t) => {
  for (const text of [
    '',
    '{',
    '[]',
    '{"version":2,"toldUntilMs":1}',
    '{"version":1,"toldUntilMs":-1}',
    '\0',
  ]) {
    const sim = await readyAgent(t);
    await sim.crash();
    writeFileSync(join(sim.folder, 'metering.json'), text);
    await sim.restart();
    t.same(await records(sim), []);
  }
});

t.test('records are listed page by page, by object, kind and time', async (t) => {
  const sim = await readyAgent(t);
  for (const name of ['web', 'db']) await sim.run('instance.create', { spec: spec(name) });
  for (let hour = 0; hour < 3; hour++) await untilNextHour(sim);
  const all = await records(sim);
  const paged: UsageRecord[] = [];
  let after: number | null = 0;
  while (after !== null) {
    const page: { records: UsageRecord[]; next: number | null } = await sim.call('usage.list', {
      after,
      limit: 5,
    });
    paged.push(...page.records);
    after = page.next;
  }
  t.same(paged, all);
  const volumes = (await sim.call('usage.list', { kind: 'volume' })).records;
  t.equal(volumes.length, all.length / 2);
  const since = all[0]?.periodEnd as string;
  const later = (await sim.call('usage.list', { since })).records;
  t.equal(later.length, (all.length / 3) * 2);
  t.same((await sim.call('usage.list', { until: since })).records.length, all.length / 3);
  t.same((await sim.call('usage.list', { object: 'nobody' })).records, []);
  const { id } = sim.agent.services.store.instances.get('web');
  t.same(await records(sim, id), await records(sim, 'web'));
});

t.test('a question that makes no sense is refused', async (t) => {
  const sim = await simAgent(t);
  const bad = [
    { since: 'yesterday' },
    { since: '2026-99-99T99:99:99Z' },
    { after: -1 },
    { limit: 0 },
    { limit: 501 },
    { kind: 'share' },
    { object: '../etc' },
    { object: "x' OR 1=1 --" },
    { unknown: true },
  ];
  for (const params of bad) {
    await t.rejects(
      sim.call('usage.list', params as never),
      { code: 'INVALID_ARGUMENT' },
      JSON.stringify(params),
    );
  }
});

t.test('where it is turned off nothing is written, and what was before is not counted later', async (t) => {
  const sim = await simAgent(t, { config: '[metering]\nenabled = false\n' });
  await prepare(sim);
  await sim.run('instance.create', { spec: spec() });
  await untilNextHour(sim);
  t.same(await records(sim), []);
  t.same(sim.agent.services.store.meters.changes(), []);
});
