/** Nodes: presence, events, polls, calls. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import { eventually } from '../support/eventually.ts';
import { startLab } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { anInstance, aSpec } from '../support/samples.ts';

t.test('a node is lost after three intervals without a heartbeat, and back with the next one', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  agent.instances.set(instance.id, instance);
  agent.emit('instance.created', { instance });
  await eventually(() => agent.acked === 1);
  const show = async () => (await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node;
  await agent.drop();
  clock.advance(10_000);
  t.match(await show(), { state: 'ready' });
  clock.advance(5_000);
  const lost = await show();
  t.match(lost, { state: 'lost', connected: false, reason: 'no heartbeat for 15 s' });
  t.equal(lost.since, new Date(clock.now()).toISOString());
  const { body } = await lab.get(`/v1/instances/${instance.id}`);
  t.match(
    body.instance.power,
    { state: 'unknown', since: lost.since },
    'nothing is claimed of its instances',
  );
  await agent.connect();
  t.match(await show(), { state: 'ready', connected: true, reason: 'it has connected' });
  t.match((await lab.get(`/v1/instances/${instance.id}`)).body.instance.power, { state: 'stopped' });
});

t.test('heartbeats keep a node ready, and bring its inventory', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const agent = await lab.node({ silent: true, total: { MEMORY_MB: 4096 } });
  const grown = agent.inventory();
  grown.resources.MEMORY_MB.total = grown.resources.MEMORY_MB.available = 8192;
  for (let beat = 0; beat < 6; beat++) {
    const heardAt = new Date(clock.now()).toISOString();
    agent.heartbeat({ inventory: grown });
    await eventually(async () => (await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.heardAt === heardAt);
    clock.advance(5_000);
  }
  const { body } = await lab.get(`/v1/nodes/${agent.nodeId}`);
  t.match(body.node, { state: 'ready', room: { MEMORY_MB: 8192 } });
});

t.test('events are acknowledged, mirrored and listed', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = { ...anInstance(randomUUID(), aSpec()), lifecycle: 'ready' as const };
  agent.instances.set(instance.id, instance);
  agent.emit('instance.created', { instance: { ...instance, lifecycle: 'building' } });
  agent.emit('instance.changed', { instance });
  agent.emit('image.created', { image: { name: 'debian' } });
  await eventually(() => agent.acked === 3);
  const shown = await lab.get('/v1/instances/web-1');
  t.match(shown.body.instance, { id: instance.id, phase: 'present', instance: { lifecycle: 'ready' } });
  const { body } = await lab.get(`/v1/nodes/${agent.nodeId}/events?after=1`);
  t.same(body, { events: agent.events.slice(1), lastSeq: 3 });
  agent.remove(instance.id);
  await eventually(() => agent.acked === 4);
  t.equal((await lab.get('/v1/instances/web-1')).status, 404);
});

t.test('events that come again after a reconnection are acknowledged and not taken twice', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  const ready = { ...instance, lifecycle: 'ready' as const };
  agent.instances.set(instance.id, ready);
  const first = agent.emit('instance.created', { instance });
  agent.emit('instance.changed', { instance: ready });
  await eventually(() => agent.acked === 2);
  await agent.drop();
  t.equal((await agent.connect()).lastSeq, 2);
  await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  agent.acked = 0;
  agent.notify('event', first);
  await eventually(() => agent.acked === 2);
  t.match((await lab.get('/v1/instances/web-1')).body.instance, { instance: { lifecycle: 'ready' } });
  agent.emit('image.created', {});
  await eventually(() => agent.acked === 3);
  t.same((await lab.get(`/v1/nodes/${agent.nodeId}/events`)).body.events, agent.events);
});

t.test('events that happened while the link was down come with the next one', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await agent.drop();
  for (let at = 0; at < 1_000; at++) agent.emit('image.created', { at });
  t.equal((await agent.connect()).lastSeq, 0);
  await eventually(() => agent.acked === 1_000);
  t.equal((await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.lastSeq, 1_000);
});

t.test('after missed events the node is polled', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await eventually(() => agent.received('instance.list').length === 1);
  await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  const instance = anInstance(randomUUID(), aSpec());
  agent.instances.set(instance.id, instance);
  agent.notify('event', { seq: 50, type: 'image.created', at: instance.createdAt, target: null, data: {} });
  await eventually(async () => (await lab.get('/v1/instances/web-1')).status === 200);
});

t.test('a node that has lost its database counts its events anew', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  for (let at = 0; at < 5; at++) agent.emit('image.created', { at });
  await eventually(() => agent.acked === 5);
  await agent.drop();
  agent.events = [];
  agent.acked = 0;
  t.equal((await agent.connect()).lastSeq, 0);
  const event = agent.emit('image.created', { anew: true });
  await eventually(() => agent.acked === 1);
  t.same((await lab.get(`/v1/nodes/${agent.nodeId}/events`)).body.events, [event]);
});

t.test('an event whose data is of another version is kept, and harms nothing', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.emit('instance.changed', { instance: { id: 'not a uuid' } });
  agent.emit('operation.changed', {});
  await eventually(() => agent.acked === 2);
  t.same((await lab.get('/v1/instances')).body.instances, []);
});

t.test('a node cannot speak for the instances of another', async (t) => {
  const lab = await startLab(t);
  const [owner, liar] = [await lab.node(), await lab.node()];
  const instance = anInstance(randomUUID(), aSpec());
  owner.instances.set(instance.id, instance);
  owner.emit('instance.created', { instance });
  await eventually(() => owner.acked === 1);
  liar.emit('instance.changed', { instance: { ...instance, lifecycle: 'deleting' } });
  liar.emit('instance.deleted', { id: instance.id });
  await eventually(() => liar.acked === 2);
  const { body } = await lab.get(`/v1/instances/${instance.id}`);
  t.match(body.instance, { node: owner.nodeId, instance: { lifecycle: 'building' } });
});

t.test('a poll asks for inventory, instances and status, and the mirror follows', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  const [kept, gone] = [
    anInstance(randomUUID(), aSpec()),
    anInstance(randomUUID(), aSpec({ name: 'web-2' })),
  ];
  for (const instance of [kept, gone]) {
    agent.instances.set(instance.id, instance);
    agent.emit('instance.created', { instance });
  }
  await eventually(() => agent.acked === 2);
  agent.instances.delete(gone.id); // and no event tells of it
  const { status, body } = await lab.post('/v1/nodes/alpha/poll');
  t.equal(status, 200);
  t.same(body.inventory, agent.inventory());
  t.same(body.instances, [kept]);
  t.equal(body.status.hostname, 'alpha');
  const { instances } = (await lab.get('/v1/instances')).body;
  t.same(
    instances.map(({ id }: { id: string }) => id),
    [kept.id],
  );
});

t.test('nodes are polled on the interval', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const agent = await lab.node();
  await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  await eventually(async () => {
    const before = agent.received('instance.list').length;
    clock.advance(1_000);
    await lab.get('/healthz');
    return clock.now() >= Date.UTC(2026, 0, 1, 0, 1) && before > 1;
  });
});

t.test('a poll of a node that is not connected is refused, and what is known of it stays', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  agent.instances.set(instance.id, instance);
  agent.emit('instance.created', { instance });
  await eventually(() => agent.acked === 1);
  await agent.drop();
  await eventually(async () => !(await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.connected);
  const { status, body, headers } = await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  t.equal(status, 503);
  t.equal(body.error.code, 'UNAVAILABLE');
  t.ok(headers.get('retry-after'));
  t.equal((await lab.get('/v1/instances/web-1')).status, 200);
});

t.test('an answer that does not fit the method table is a failure of the node, not its state', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.answer('instance.list', () => ({ instances: [{ id: '../../etc' }] }));
  const { status, body } = await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  t.equal(status, 500);
  t.match(body.error, { code: 'INTERNAL', message: /does not fit/ });
});

t.test('a call is checked, forwarded with key and epoch, and its operation can be followed', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const instance = anInstance(randomUUID(), aSpec());
  agent.instances.set(instance.id, instance);
  const path = `/v1/nodes/${agent.nodeId}/call`;
  const body = { method: 'instance.stop', params: { id: instance.id } };
  const called = await lab.post(path, body, { 'idempotency-key': 'k1' });
  t.equal(called.status, 200);
  t.same(agent.received('instance.stop'), [
    { id: instance.id, mode: 'graceful', timeoutSeconds: 60, key: 'k1', epoch: lab.scheduler.epoch },
  ]);
  const { id } = called.body.result.operation;
  t.equal((await lab.get(`/v1/operations/${id}`)).body.operation.kind, 'instance.stop');
});

t.test(
  'a call of what is not in the method table, or with what it does not take, goes nowhere',
  async (t) => {
    const lab = await startLab(t);
    const agent = await lab.node();
    const path = `/v1/nodes/${agent.nodeId}/call`;
    const unknown = await lab.post(path, { method: 'instance.lst' });
    t.equal(unknown.status, 400);
    t.match(unknown.body.error, { code: 'INVALID_ARGUMENT', hint: 'Did you mean instance.list?' });
    const wrong = await lab.post(path, { method: 'instance.show', params: { id: '../x' } });
    t.equal(wrong.status, 400);
    t.same(agent.received('instance.show'), []);
  },
);

t.test('a call that the node refuses gets its refusal', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.answer('image.show', () => {
    throw new AgentError('NOT_FOUND', 'No image debian', { hint: 'Import it.' });
  });
  const { status, body } = await lab.post(`/v1/nodes/${agent.nodeId}/call`, {
    method: 'image.show',
    params: { id: 'debian' },
  });
  t.equal(status, 404);
  t.same(body.error, { code: 'NOT_FOUND', message: 'No image debian', hint: 'Import it.' });
});

t.test('requests in flight on one link are limited, and those beyond are told so', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  agent.hold('image.list');
  const calls = Array.from({ length: 65 }, () =>
    lab.post(`/v1/nodes/${agent.nodeId}/call`, { method: 'image.list' }),
  );
  const refused = await Promise.race(calls);
  t.equal(refused.status, 429);
  t.equal(agent.received('image.list').length, 64);
  await agent.drop();
  const statuses = (await Promise.all(calls)).map(({ status }) => status);
  t.equal(statuses.filter((status) => status === 503).length, 64, 'the rest settle when the link dies');
});

t.test('two nodes of one hostname are told apart by id only', async (t) => {
  const lab = await startLab(t);
  const [a, b] = [await lab.node({ hostname: 'twin' }), await lab.node({ hostname: 'twin' })];
  const { status, body } = await lab.get('/v1/nodes/twin');
  t.equal(status, 400);
  t.same(body.error.details.nodes.toSorted(), [a.nodeId, b.nodeId].toSorted());
  t.equal((await lab.get(`/v1/nodes/${a.nodeId}`)).status, 200);
});
