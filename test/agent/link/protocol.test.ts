/** What the link says to a scheduler that speaks version 1.1: agreement, deltas, holes, snapshots. */
import t, { type Test } from 'tap';
import { patchJson } from '../../../src/model/json-patch.ts';
import type { LinkTerms } from '../../../src/model/link.ts';
import type { Inventory } from '../../../src/model/node.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { spec } from '../support/sim-agent.ts';
import { healthIs, type Linked, linked, pass, writeEvents } from './support/linked.ts';
import { terms } from './support/terms.ts';

const storeOf = ({ sim }: Linked) => sim.agent.services.store;
const isDelta = (beat: Record<string, unknown>) => 'delta' in beat;

t.test('a hello offers version, features and limits, and tells the numbering of its events', async (t) => {
  const parts = await linked(t);
  const peer = await parts.scheduler.peer(1);
  const hello = await eventually(() => peer.hello);
  t.match(hello.link, {
    version: '1.1',
    features: ['deltas', 'coalesced', 'snapshots'],
    limits: { messageBytes: 8_388_608, requests: 64 },
    outbox: { id: storeOf(parts).events.outbox.id, keptAfter: 0 },
  });
  t.type(hello.revision, 'string');
});

t.test('unknown fields of the terms are passed over, and unknown features are not used', async (t) => {
  const { scheduler, link } = await linked(t);
  const peer = await scheduler.peer(1);
  const link_ = {
    ...terms({ version: '1.9', features: ['deltas', 'telepathy'] }),
    shoeSize: 43,
  } as LinkTerms;
  await peer.welcome({ link: link_ });
  t.equal(link.health.state, 'ok');
  t.same(Object.keys(peer.heartbeats[0] ?? {}).sort(), ['instances', 'lastSeq', 'revision']);
});

t.test('a heartbeat in which nothing has changed has at most 120 bytes with its frame', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1, link: terms() });
  await pass(sim, 2_000);
  const beat = await eventually(() => peer.heartbeats[2]);
  t.same(Object.keys(beat), ['revision']);
  const message = JSON.stringify({ jsonrpc: '2.0', method: 'heartbeat', params: beat });
  const headerBytes = Buffer.byteLength(message) < 126 ? 6 : 8; // opcode, length, mask
  t.ok(Buffer.byteLength(message) + headerBytes <= 120, message);
});

/** Linked with deltas, and then another inventory than its hello told. */
async function changed(t: Test) {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1, link: terms() });
  const told = await eventually(() => peer.hello);
  await sim.run('instance.create', { spec: spec() });
  await pass(sim, 1_000);
  return { sim, peer, told };
}

t.test('a change of the inventory is told as a patch, once, and makes it what it is', async (t) => {
  const { sim, peer, told } = await changed(t);
  const beat = await eventually(() => peer.heartbeats.find(isDelta));
  const { delta, revision } = beat as { delta: { base: string; patch: [] }; revision: string };
  t.equal(delta.base, told.revision);
  t.same(patchJson(told.inventory, delta.patch), sim.agent.services.inventories.get());
  t.notOk(beat['inventory']);
  peer.say({ method: 'ack', params: { revision } });
  await pass(sim, 5_000);
  await eventually(() => peer.heartbeats.at(-1)?.['revision'] === revision);
  t.equal(peer.heartbeats.filter(isDelta).length, 1);
});

t.test('while a change is not acknowledged the next ones wait, and then are told in one', async (t) => {
  const { sim, peer, told } = await changed(t);
  const first = (await eventually(() => peer.heartbeats.find(isDelta))) as {
    delta: { patch: [] };
    revision: string;
  };
  const held = patchJson(told.inventory, first.delta.patch);
  await sim.run('instance.create', { spec: { ...spec(), name: 'second' } });
  await pass(sim, 1_000);
  t.equal(peer.heartbeats.filter(isDelta).length, 1);
  peer.say({ method: 'ack', params: { revision: first.revision } });
  await eventually(async () => {
    await pass(sim, 1_000);
    return peer.heartbeats.filter(isDelta).length === 2;
  });
  const second = peer.heartbeats.filter(isDelta)[1] as { delta: { base: string; patch: [] } };
  t.equal(second.delta.base, first.revision);
  t.same(patchJson(held, second.delta.patch), sim.agent.services.inventories.get());
});

t.test('a scheduler that holds nothing, or never acknowledges, is told the whole', async (t) => {
  const { sim, scheduler } = await linked(t);
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1, link: terms() });
  const whole = () => peer.heartbeats.filter((beat) => 'inventory' in beat).length;
  peer.say({ method: 'ack', params: { revision: null } });
  await peer.call('node.status');
  await pass(sim, 1_000);
  await eventually(() => whole() === 1);
  await pass(sim, 2_000);
  t.equal(whole(), 1, 'an acknowledgement is waited for');
  await pass(sim, 1_000);
  await eventually(() => whole() === 2);
});

t.test('the hello of the next link has no inventory, but what has changed of it', async (t) => {
  const { sim, scheduler, link } = await linked(t);
  const first = await scheduler.peer(1);
  await first.welcome({ link: terms() });
  const told = await eventually(() => first.hello);
  first.cut();
  await healthIs(link, 'unavailable');
  await sim.run('instance.create', { spec: spec() });
  await pass(sim, 500);
  const second = await scheduler.peer(2);
  const hello = await eventually(() => second.hello);
  t.equal(hello.inventory, undefined);
  t.equal(hello.delta?.base, told.revision);
  t.same(
    patchJson(told.inventory, hello.delta?.patch ?? []) as Inventory,
    sim.agent.services.inventories.get(),
  );
});

t.test(
  'a scheduler that does not hold what it is told against gets a whole hello on the same link',
  async (t) => {
    const { sim, scheduler, link } = await linked(t);
    const first = await scheduler.peer(1);
    await first.welcome({ link: terms() });
    first.cut();
    await healthIs(link, 'unavailable');
    await pass(sim, 500);
    const second = await scheduler.peer(2);
    await eventually(() => second.hello);
    const data = { code: 'STALE', message: 'not held here' };
    second.say({ id: 'hello', error: { code: -32_000, message: data.message, data } });
    const hellos = () => second.messages.filter(({ method }) => method === 'hello');
    await eventually(() => hellos().length === 2);
    t.ok(hellos()[1]?.params?.['inventory']);
    second.say({ id: 'hello', result: { epoch: 1, lastSeq: 0, heartbeatSeconds: 10, link: terms() } });
    await healthIs(link, 'ok');
    t.equal(scheduler.peers.length, 2);
  },
);

t.test('a scheduler that takes fewer events at a time, and smaller messages, gets them so', async (t) => {
  const parts = await linked(t);
  const store = storeOf(parts);
  const peer = await parts.scheduler.peer(1);
  await eventually(() => peer.hello);
  const lastSeq = store.events.lastSeq();
  store.db.transaction(() => store.events.append('image.created', null, { text: 'x'.repeat(100_000) }));
  writeEvents(parts.sim, 50);
  const limits = { messageBytes: 65_536, requests: 64, events: 10 };
  await peer.welcome({ lastSeq, link: terms({ limits }) });
  await eventually(() => peer.events.length === 10);
  await peer.call('node.status');
  t.equal(peer.events.length, 10);
  t.match(peer.events[0], { type: 'image.created', data: { leftOutBytes: Number } });
  peer.ack(lastSeq + 10);
  await eventually(() => peer.events.length === 20);
  store.db.transaction(() => store.events.append('image.created', null, { text: 'x'.repeat(100_000) }));
  t.match(await peer.call('event.list', { after: lastSeq }), { error: { data: { code: 'LIMIT_REACHED' } } });
});

t.test('holes in the numbers are told to be none', async (t) => {
  const parts = await linked(t);
  const store = storeOf(parts);
  const lastSeq = store.events.lastSeq();
  for (let i = 0; i < 22; i++) writeEvents(parts.sim, 1_000);
  const peer = await parts.scheduler.peer(1);
  await peer.welcome({ lastSeq, link: terms() });
  await eventually(() => peer.seqs.at(-1) === store.events.lastSeq());
  let before = lastSeq;
  for (const { seq, after } of peer.events) {
    t.equal(after ?? seq - 1, before);
    before = seq;
  }
  t.ok(peer.events.length < 2_000, `${peer.events.length} in place of 22,000`);
});

t.test('what is gone of the events is made up for by a snapshot, and events go on after it', async (t) => {
  const parts = await linked(t);
  const { sim } = parts;
  const store = storeOf(parts);
  await sim.run('instance.create', { spec: spec() });
  store.db.transaction(() => store.events.outbox.lose(store.events.lastSeq()));
  const seq = store.events.lastSeq();
  const peer = await parts.scheduler.peer(1);
  await peer.welcome({ lastSeq: 1, link: terms() });
  const parts_ = () =>
    peer.messages.filter(({ method }) => method === 'snapshot').map(({ params }) => params ?? {});
  await eventually(() => parts_().at(-1)?.['last']);
  t.same(peer.events, []);
  t.same(
    parts_().map(({ part, kind }) => [part, kind]),
    ['instance', 'volume', 'share', 'image', 'network', 'operation'].map((kind, part) => [part, kind]),
  );
  t.match(parts_()[0], { seq, objects: [{ name: 'web' }] });
  t.ok(parts_().every((each) => each['seq'] === seq));
  writeEvents(sim, 1);
  await eventually(() => peer.events.length === 1);
  t.same(peer.seqs, [seq + 1]);
  peer.ack(seq + 1);
  await peer.call('node.status');
  t.equal(store.events.acknowledged(), seq + 1);
});

/** 10 KiB of them. */
const KEYS = Array.from({ length: 10 }, (_, i) => `ssh-rsa ${'A'.repeat(1_000)} user-${i}`);

t.test('a snapshot of much is told in parts, and no faster than it is read', async (t) => {
  const parts = await linked(t);
  const { sim } = parts;
  const store = storeOf(parts);
  for (let i = 0; i < 30; i++) {
    await sim.run('instance.create', { spec: { ...spec(), name: `web-${i}`, sshAuthorizedKeys: KEYS } });
  }
  store.db.transaction(() => store.events.outbox.lose(store.events.lastSeq()));
  const peer = await parts.scheduler.peer(1);
  const limits = { messageBytes: 65_536, requests: 64, events: 500 };
  await peer.welcome({ lastSeq: 1, link: terms({ limits }) });
  const told = () =>
    peer.messages.filter(({ method }) => method === 'snapshot').map(({ params }) => params ?? {});
  await eventually(() => told().at(-1)?.['last']);
  t.ok(told().length > 6);
  t.ok(told().every((part) => Buffer.byteLength(JSON.stringify(part)) < 65_536));
  const names = told().flatMap(({ kind, objects }) =>
    kind === 'instance' ? (objects as { name: string }[]).map(({ name }) => name) : [],
  );
  t.equal(new Set(names).size, 30);
});

t.test(
  'a scheduler that knows another event by a number of ours is told them by another numbering',
  async (t) => {
    const parts = await linked(t);
    const store = storeOf(parts);
    const before = store.events.outbox.id;
    const first = await parts.scheduler.peer(1);
    await first.welcome({ lastSeq: 2, link: terms({ lastAt: '2020-01-01T00:00:00.000Z' }) });
    await healthIs(parts.link, 'unavailable', /another event 2/);
    t.same(first.events, []);
    await pass(parts.sim, 500);
    const second = await parts.scheduler.peer(2);
    const hello = await eventually(() => second.hello);
    t.not(hello.link?.outbox.id, before);
    await second.welcome({ lastSeq: 0, link: terms() });
    await eventually(() => second.events.length > 2);
  },
);

t.test(
  'a database that is put back from a copy has another numbering, one that is kept has not',
  async (t) => {
    const { sim } = await linked(t);
    const idOf = () => sim.agent.services.store.events.outbox.id;
    const first = idOf();
    await sim.stop();
    await sim.restart();
    t.equal(idOf(), first);
    const { store } = sim.agent.services;
    store.db.transaction(() => store.meta.set('opening', 'copy'));
    await sim.crash();
    await sim.restart();
    t.not(idOf(), first);
  },
);
