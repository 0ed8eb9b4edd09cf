/** That a light agent speaks as a full one does: the same scenario on both, and the same messages up to ids and times. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { LightAgent } from '../../fleet/light/agent.ts';
import { systemClock } from '../../src/drivers/contracts/clock.ts';
import { FEATURES, PROTOCOL_VERSION } from '../../src/model/link.ts';
import { FakeScheduler, type Message, type Peer } from '../agent/link/support/fake-scheduler.ts';
import { linkOf } from '../agent/link/support/linked.ts';
import { simAgent, spec } from '../agent/support/sim-agent.ts';
import { eventually } from '../scheduler/support/eventually.ts';

const TOKEN = 'a-token-of-the-test';
const ID = '11111111-1111-4111-8111-111111111111';
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
const TERMS = {
  version: PROTOCOL_VERSION,
  features: [...FEATURES],
  limits: { messageBytes: 8 * 1024 * 1024, requests: 64, events: 500 },
  lastAt: null,
};
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Lets time pass until the promise is settled, where the agent's time stands still. */
type Pass = <T>(promise: Promise<T>) => Promise<T>;

const asked: [method: string, params: Record<string, unknown>][] = [
  ['instance.list', {}],
  [
    'instance.create',
    { id: ID, key: 'create', epoch: 1, spec: spec('web', { disks: [{ sizeGib: 4 }], nics: [] }) },
  ],
  ['inventory.get', {}],
  ['instance.stop', { id: ID, key: 'stop', epoch: 1, mode: 'forced' }],
  ['instance.start', { id: ID, key: 'start', epoch: 1 }],
  ['instance.list', {}],
  ['instance.delete', { id: ID, key: 'delete', epoch: 1 }],
  ['instance.delete', { id: ID, key: 'delete', epoch: 1 }],
  ['inventory.get', {}],
  ['instance.create', { key: 'bad', spec: {} }],
  ['instance.start', { id: 'nowhere', key: 'astray', epoch: 1 }],
  ['instance.start', { id: ID, key: 'stale', epoch: 0 }],
  ['no.such', {}],
];

/** Asks one after the other, each after what the one before has begun has ended. */
async function play(scheduler: FakeScheduler, pass: Pass): Promise<string[]> {
  const peer = await pass(scheduler.peer(1));
  await pass(eventually(() => peer.hello));
  await pass(peer.welcome({ lastSeq: peer.hello?.lastSeq ?? 0, link: TERMS }));
  for (const [method, params] of asked) {
    const answer = await pass(peer.call(method, params));
    const operation = answer.result?.['operation'] as { id: string } | undefined;
    if (operation !== undefined) await pass(eventually(() => hasEnded(peer, operation.id)));
    acknowledgeAll(peer);
  }
  return told(peer.messages);
}

function hasEnded(peer: Peer, id: string): boolean {
  return peer.events.some(({ type, data }) => {
    const operation = data['operation'] as { id: string; state: string } | undefined;
    return type === 'operation.changed' && operation?.id === id && operation.state === 'succeeded';
  });
}

function acknowledgeAll(peer: Peer): void {
  const last = peer.seqs.at(-1);
  if (last !== undefined) peer.ack(last);
}

/** Ids are numbered as they come; the hello's counts differ by what a full agent has seen of its host at its start. */
function told(messages: readonly Message[]): string[] {
  const names = new Map<string, string>();
  const nameOf = (id: string): string => {
    if (!names.has(id)) names.set(id, `id${names.size}`);
    return names.get(id) ?? id;
  };
  const firstSeq = Number(messages.find(({ method }) => method === 'event')?.params?.['seq'] ?? 0);
  return messages.map((message) =>
    JSON.stringify(message, (key, value) => comparable(key, value, firstSeq))
      .replaceAll(UUID, nameOf)
      .replaceAll(TIME, 'TIME')
      .replaceAll(/"revision":"[0-9a-f]{8}\.\d+"/g, '"revision":"R"')
      .replaceAll(/"hostname":"[^"]*"/g, '"hostname":"H"')
      .replaceAll(/"generation":\d+\}/g, '"generation":G}'),
  );
}

/** Hints are words for people, and a light agent has none. */
function comparable(key: string, value: unknown, firstSeq: number): unknown {
  if (key === 'hint') return undefined;
  if (key === 'seq') return Number(value) - firstSeq;
  return key === 'lastSeq' ? 0 : value;
}

async function full(t: Test): Promise<string[]> {
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  const sim = await simAgent(t);
  const tokenFile = join(sim.folder, 'token');
  writeFileSync(tokenFile, TOKEN);
  const link = linkOf(sim, { url: scheduler.url, tokenFile, random: () => 1, role: 'admin' });
  t.teardown(async () => {
    link.close();
    await scheduler.close();
  });
  link.start();
  return play(scheduler, (promise) => sim.passTimeUntil(promise));
}

async function light(t: Test): Promise<string[]> {
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  const agent = new LightAgent({
    nodeId: randomUUID(),
    hostname: 'light',
    token: TOKEN,
    tls: {},
    clock: systemClock,
    log: SILENT,
    random: () => 1,
    workMs: () => 0,
  });
  t.teardown(async () => {
    await agent.stop();
    await scheduler.close();
  });
  await agent.start(scheduler.url);
  return play(scheduler, (promise) => promise);
}

t.test('a light agent says what a full one says', async (t) => {
  const [byFull, byLight] = [await full(t), await light(t)];
  t.same(byLight, byFull);
  t.ok(byFull.length > 20, 'there was much to say');
});
