/** The gateway and an agent that speaks version 1.1: agreement, deltas, snapshots, numberings. */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { diffJson } from '../../../src/model/json-patch.ts';
import { FEATURES, SNAPSHOT_KINDS } from '../../../src/model/link.ts';
import { eventually } from '../support/eventually.ts';
import type { FakeAgent } from '../support/fake-agent.ts';
import { type Lab, startLab } from '../support/lab.ts';
import { anInstance, aSpec } from '../support/samples.ts';

type Params = Record<string, unknown>;

function offer(change: Params = {}): Params {
  return {
    version: '1.1',
    features: [...FEATURES],
    limits: { messageBytes: 8_388_608, requests: 64 },
    outbox: { id: randomUUID(), keptAfter: 0 },
    ...change,
  };
}

/** An agent whose hellos are changed by `say`. */
function speaking(lab: Lab, say: () => Params): FakeAgent {
  const agent = lab.agent();
  agent.hold('inventory.get'); // so that it is known by what it tells alone
  const hello = agent.hello.bind(agent);
  agent.hello = () => {
    const params: Params = { ...hello(), ...say() };
    for (const [key, value] of Object.entries(params)) if (value === undefined) delete params[key];
    return params;
  };
  return agent;
}

/** An agent whose inventory is held as revision a.1, a patch to one with a trait, and `tell`: what its hellos say from now on. */
async function acquainted(t: Test) {
  const lab = await startLab(t);
  let told: Params = { revision: 'a.1' };
  const agent = speaking(lab, () => ({ link: offer(), ...told }));
  await agent.connect();
  const before = agent.inventory();
  const patch = diffJson(before, { ...before, traits: ['CUSTOM_NEW'] });
  const tell = (params: Params): void => {
    told = params;
  };
  return { lab, agent, patch, tell };
}

const acksOf = (agent: FakeAgent) => agent.revisions;
const nodeOf = async (lab: Lab, { nodeId }: FakeAgent) => (await lab.get(`/v1/nodes/${nodeId}`)).body.node;

t.test(
  'what both can is in the answer, with what the scheduler takes; unknown features are not',
  async (t) => {
    const lab = await startLab(t);
    const agent = speaking(lab, () => ({ link: offer({ features: ['deltas', 'telepathy'], mood: 'good' }) }));
    const { link } = await agent.connect();
    t.same(link, {
      version: '1.1',
      features: ['deltas'],
      limits: { messageBytes: 8_388_608, requests: 64, events: 500 },
      lastAt: null,
    });
  },
);

t.test('an agent of version 1.0 is answered as ever', async (t) => {
  const lab = await startLab(t);
  t.same(Object.keys(await lab.agent().connect()), ['epoch', 'lastSeq', 'heartbeatSeconds']);
});

t.test(
  'a patch of the inventory is applied and acknowledged, and a heartbeat without one is not',
  async (t) => {
    const { lab, agent, patch } = await acquainted(t);
    agent.notify('heartbeat', { revision: 'a.1' });
    agent.notify('heartbeat', { revision: 'a.2', delta: { base: 'a.1', patch } });
    await eventually(() => acksOf(agent).length > 0);
    t.same(acksOf(agent), ['a.2']);
    t.same((await nodeOf(lab, agent)).inventory.traits, ['CUSTOM_NEW']);
  },
);

t.test('a revision that is not held is answered with null, and the heartbeat counts', async (t) => {
  const lab = await startLab(t);
  const agent = speaking(lab, () => ({ link: offer(), revision: 'a.1' }));
  await agent.connect();
  agent.notify('heartbeat', { revision: 'b.7' });
  agent.notify('heartbeat', { revision: 'b.8', delta: { base: 'b.7', patch: [] } });
  await eventually(() => acksOf(agent).length === 2);
  t.same(acksOf(agent), [null, null]);
  agent.notify('heartbeat', { revision: 'b.8', inventory: agent.inventory() });
  await eventually(() => acksOf(agent).length === 3);
  t.equal(acksOf(agent)[2], 'b.8');
});

const BAD_PATCHES: [string, unknown[]][] = [
  ['does not fit', [{ op: 'remove', path: '/none' }]],
  ['makes no inventory of it', [{ op: 'remove', path: '/resources' }]],
  ['makes it that of another node', [{ op: 'replace', path: '/nodeId', value: randomUUID() }]],
  ['reaches for the prototype', [{ op: 'add', path: '/__proto__/polluted', value: 1 }]],
  ['has more operations than allowed', Array.from({ length: 501 }, () => ({ op: 'remove', path: '/x' }))],
  ['copies', [{ op: 'copy', from: '/traits', path: '/x' }]],
];

for (const [what, patch] of BAD_PATCHES) {
  t.test(`a patch that ${what} closes the link, and changes nothing`, async (t) => {
    const lab = await startLab(t);
    const agent = speaking(lab, () => ({ link: offer(), revision: 'a.1' }));
    await agent.connect();
    const before = (await nodeOf(lab, agent)).inventory;
    agent.notify('heartbeat', { revision: 'a.2', delta: { base: 'a.1', patch } });
    t.equal(await eventually(() => agent.closeCode), 4003);
    t.same((await nodeOf(lab, agent)).inventory, before);
    t.equal(({} as { polluted?: unknown }).polluted, undefined);
  });
}

t.test(
  'a hello that goes on from what is held needs no inventory; else it is asked for on the same link',
  async (t) => {
    const { lab, agent, patch, tell } = await acquainted(t);
    tell({ inventory: undefined, revision: 'a.2', delta: { base: 'a.1', patch } });
    await agent.connect();
    t.same((await nodeOf(lab, agent)).inventory.traits, ['CUSTOM_NEW']);
    tell({ inventory: undefined, revision: 'z.2', delta: { base: 'z.1', patch } });
    await agent.open();
    agent.say({ jsonrpc: '2.0', id: 1, method: 'hello', params: agent.hello() });
    t.match(await eventually(() => agent.replies[0]), { id: 1, error: { data: { code: 'STALE' } } });
    tell({ revision: 'z.2' });
    agent.say({ jsonrpc: '2.0', id: 2, method: 'hello', params: agent.hello() });
    t.ok((await eventually(() => agent.replies[1])).result);
    t.equal(agent.closeCode, null);
  },
);

t.test('a scheduler that was restarted goes on from the inventory that it has stored', async (t) => {
  const { lab, agent, patch, tell } = await acquainted(t);
  agent.notify('heartbeat', { revision: 'a.2', delta: { base: 'a.1', patch } });
  await eventually(() => acksOf(agent).includes('a.2'));
  await lab.restart();
  tell({ inventory: undefined, revision: 'a.2', delta: { base: 'a.2', patch: [] } });
  await agent.connect();
  t.same((await nodeOf(lab, agent)).inventory.traits, ['CUSTOM_NEW']);
});

t.test('while a hello is being stored neither another one nor anything else is taken', async (t) => {
  const lab = await startLab(t);
  const agent = speaking(lab, () => ({ link: offer(), revision: 'a.1' }));
  await agent.open();
  const hello = (id: number) => ({ jsonrpc: '2.0', id, method: 'hello', params: agent.hello() });
  agent.say(hello(1));
  agent.say({ jsonrpc: '2.0', id: 2, method: 'identity.renew', params: { request: 'x' } });
  const [early, welcome] = await eventually(() => (agent.replies.length === 2 ? agent.replies : null));
  t.match(early, { id: 2, error: { data: { code: 'ILLEGAL_STATE' } } });
  t.ok(welcome?.result);
  t.equal(agent.closeCode, null);

  const hasty = speaking(lab, () => ({ link: offer(), revision: 'b.1' }));
  await hasty.open();
  for (const id of [1, 2]) hasty.say({ ...hello(id), params: hasty.hello() });
  t.equal(await eventually(() => hasty.closeCode), 4004, 'who says it twice is not one of ours');
});

t.test('a link that ends while its hello is being stored leads nowhere', async (t) => {
  const lab = await startLab(t);
  const agent = speaking(lab, () => ({ link: offer(), revision: 'a.1' }));
  await agent.open();
  agent.say({ jsonrpc: '2.0', id: 1, method: 'hello', params: agent.hello() });
  agent.say('no JSON-RPC');
  t.equal(await eventually(() => agent.closeCode), 4003);
  await eventually(async () => (await nodeOf(lab, agent))?.id === agent.nodeId);
  t.equal((await nodeOf(lab, agent)).connected, false);
  await agent.connect();
  t.equal((await nodeOf(lab, agent)).connected, true);
});

t.test('a hello with neither inventory nor delta is refused', async (t) => {
  const lab = await startLab(t);
  const agent = speaking(lab, () => ({ link: offer(), inventory: undefined }));
  await agent.open();
  agent.say({ jsonrpc: '2.0', id: 1, method: 'hello', params: agent.hello() });
  t.equal(await eventually(() => agent.closeCode), 4004);
});

t.test('fields of an inventory, and types of events, that a newer agent has are passed over', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  const inventory = agent.inventory.bind(agent);
  agent.inventory = () => ({ ...inventory(), quarks: 6 }) as never;
  await agent.connect();
  agent.emit('volume.teleported' as never, { far: true });
  agent.emit('image.created', {});
  await eventually(() => agent.acked === 2);
  t.equal((await lab.post(`/v1/nodes/${agent.nodeId}/poll`)).status, 200);
});

t.test('a node with another numbering begins anew, however many events it has', async (t) => {
  const lab = await startLab(t);
  let id = randomUUID();
  const agent = speaking(lab, () => ({ link: offer({ outbox: { id, keptAfter: 0 } }) }));
  for (let i = 0; i < 3; i++) agent.emit('image.created', { life: 1 });
  await agent.connect();
  await eventually(() => agent.acked === 3);
  t.match(await agent.connect(), { lastSeq: 3, link: { lastAt: agent.events[2]?.at } });
  id = randomUUID();
  agent.events = [];
  for (let i = 0; i < 5; i++) agent.emit('image.created', { life: 2 });
  t.equal((await agent.connect()).lastSeq, 0);
  await eventually(() => agent.acked === 5);
  const { events } = (await lab.get(`/v1/nodes/${agent.nodeId}/events`)).body;
  t.same(
    events.map(({ data }: { data: { life: number } }) => data.life),
    [2, 2, 2, 2, 2],
  );
});

t.test('a node with the same numbering and fewer events keeps what is stored of it', async (t) => {
  const lab = await startLab(t);
  const id = randomUUID();
  const agent = speaking(lab, () => ({ link: offer({ outbox: { id, keptAfter: 0 } }) }));
  for (let i = 0; i < 3; i++) agent.emit('image.created', {});
  await agent.connect();
  await eventually(() => agent.acked === 3);
  agent.events = agent.events.slice(0, 1);
  t.equal((await agent.connect()).lastSeq, 3, 'so that it goes on after them');
});

t.test('holes that are told as such are no reason to poll; others are', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await eventually(() => agent.received('instance.list').length === 1);
  agent.emit('image.created', {});
  const event = { type: 'image.created', at: new Date().toISOString(), target: null, data: {} };
  agent.notify('event', { ...event, seq: 10, after: 1 });
  await eventually(() => agent.acked === 10);
  t.equal(agent.received('instance.list').length, 1);
  agent.notify('event', { ...event, seq: 20 });
  await eventually(() => agent.received('instance.list').length === 2);
});

/** All parts of a snapshot. */
function snapshot(
  seq: number,
  instances: object[],
  change: (part: Params) => Params = (part) => part,
): Params[] {
  return SNAPSHOT_KINDS.map((kind, part) =>
    change({
      seq,
      part,
      kind,
      last: part === SNAPSHOT_KINDS.length - 1,
      objects: kind === 'instance' ? instances : [],
    }),
  );
}

t.test('a snapshot stands for all events up to its own, and what it lacks is gone', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const [kept, gone, added] = ['kept', 'gone', 'added'].map((name) =>
    anInstance(randomUUID(), aSpec({ name })),
  );
  for (const instance of [kept, gone]) agent.emit('instance.created', { instance });
  await eventually(() => agent.acked === 2);
  for (const part of snapshot(1_000, [kept, added] as object[])) agent.notify('snapshot', part);
  await eventually(() => agent.acked === 1_000);
  const { instances } = (await lab.get('/v1/instances')).body;
  t.same(instances.map(({ name }: { name: string }) => name).sort(), ['added', 'kept']);
  t.equal((await nodeOf(lab, agent)).lastSeq, 1_000);
  const event = { type: 'image.created', at: new Date().toISOString(), target: null, data: {} };
  agent.notify('event', { ...event, seq: 1_001 });
  await eventually(() => agent.acked === 1_001);
});

t.test('a snapshot that breaks off changes no more than it has told', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  agent.emit('instance.created', { instance });
  await eventually(() => agent.acked === 1);
  for (const part of snapshot(1_000, []).slice(0, 3)) agent.notify('snapshot', part);
  await agent.drop();
  agent.hold('instance.list');
  t.equal((await agent.connect()).lastSeq, 1);
  t.equal((await lab.get('/v1/instances')).body.instances.length, 1);
});

t.test('a snapshot out of order, of an unknown kind or of no objects closes the link', async (t) => {
  const lab = await startLab(t);
  for (const part of [
    { seq: 5, part: 1, kind: 'instance', last: true, objects: [] },
    { seq: 5, part: 0, kind: 'unicorn', last: true, objects: [] },
    { seq: 5, part: 0, kind: 'instance', last: true, objects: 'none' },
  ]) {
    const agent = await lab.node();
    agent.notify('snapshot', part);
    t.equal(await eventually(() => agent.closeCode), 4003);
  }
});

t.test('objects of a snapshot that do not fit are passed over, and are not taken for gone', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  agent.emit('instance.created', { instance });
  await eventually(() => agent.acked === 1);
  const odd = [{ ...instance, name: 7 }, null, 'x', { id: {} }, []];
  for (const part of snapshot(9, odd as object[])) agent.notify('snapshot', part);
  await eventually(() => agent.acked === 9);
  t.equal((await lab.get('/v1/instances')).body.instances.length, 1);
});
