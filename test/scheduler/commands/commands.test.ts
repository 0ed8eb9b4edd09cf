/** Commands: from HTTP to a node and back, whatever dies in between. */
import { memoryClaimMib } from '../../../src/model/overhead.ts';
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { InstanceSpec } from '../../../src/model/instance.ts';
import { eventually } from '../support/eventually.ts';
import type { FakeAgent } from '../support/fake-agent.ts';
import { type Lab, startLab } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { anOperation, aSpec } from '../support/samples.ts';

function create(lab: Lab, change: Partial<InstanceSpec> = {}, key?: string, node?: string) {
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
  return lab.post('/v1/instances', { spec: aSpec(change), ...(node ? { node } : {}) }, headers);
}

async function isGone(lab: Lab, agent: FakeAgent): Promise<void> {
  await eventually(async () => !(await lab.get(`/v1/nodes/${agent.nodeId}`)).body.node.connected);
}

t.test('an instance is made through HTTP, link and node, and can be followed to its end', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  const created = await create(lab);
  t.equal(created.status, 202);
  t.match(created.body.instance, { name: 'web-1', node: agent.nodeId, hostname: 'alpha', error: null });
  t.match(created.body.operation, { kind: 'instance.create', state: 'pending' });
  const { instance, operation } = created.body;
  t.match(agent.received('instance.create')[0], {
    id: instance.id,
    spec: aSpec(),
    epoch: lab.scheduler.epoch,
    key: String,
  });
  const waiting = lab.get(`/v1/operations/${operation.id}?wait=30`);
  agent.finishCreation(operation);
  t.match((await waiting).body, { node: agent.nodeId, operation: { id: operation.id, state: 'succeeded' } });
  const shown = (await lab.get('/v1/instances/web-1')).body.instance;
  t.match(shown, { id: instance.id, phase: 'present', power: { state: 'running' }, operation: operation.id });
});

t.test('instances are stopped, started, rebooted and deleted where they are', async (t) => {
  const lab = await startLab(t);
  const [agent] = [await lab.node(), await lab.node()];
  const { body } = await create(lab, {}, undefined, agent.nodeId);
  agent.finishCreation(body.operation);
  const stopped = await lab.post('/v1/instances/web-1/stop', { mode: 'forced', generation: 2 });
  t.equal(stopped.status, 202);
  t.match(agent.received('instance.stop')[0], { id: body.instance.id, mode: 'forced', generation: 2 });
  t.equal((await lab.post('/v1/instances/web-1/start')).status, 202);
  t.equal((await lab.post(`/v1/instances/${body.instance.id}/reboot`)).status, 202);
  const deleted = await lab.ask('DELETE', '/v1/instances/web-1?generation=2');
  t.equal(deleted.status, 202);
  t.match(deleted.body.operation, { kind: 'instance.delete' });
  t.match(agent.received('instance.delete')[0], { id: body.instance.id, generation: 2 });
  agent.remove(body.instance.id);
  await eventually(async () => (await lab.get('/v1/instances/web-1')).status === 404);
});

t.test('what a node refuses to do with an instance is passed on', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await create(lab);
  agent.answer('instance.reboot', () => {
    throw new AgentError('STALE', 'It is at generation 9', { details: { generation: 9 } });
  });
  const { status, body } = await lab.post('/v1/instances/web-1/reboot', { generation: 1 });
  t.equal(status, 412);
  t.same(body.error, { code: 'STALE', message: 'It is at generation 9', details: { generation: 9 } });
});

t.test('a repeat with the same key gets the first answer, and nothing is done twice', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const [first, same] = await Promise.all([create(lab, {}, 'key-1'), create(lab, {}, 'key-1')]);
  t.same(first.body, same.body, 'also while the first is under way');
  agent.finishCreation(first.body.operation);
  t.same((await create(lab, {}, 'key-1')).body, first.body);
  await lab.restart();
  t.same((await create(lab, {}, 'key-1')).body, first.body, 'also after a restart, with no node connected');
  t.equal(agent.received('instance.create').length, 1);
  const { status, body } = await create(lab, { vcpus: 3 }, 'key-1');
  t.equal(status, 422);
  t.equal(body.error.code, 'KEY_REUSED');
});

t.test('a repeat of what was refused is refused in the same words', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.answer('instance.create', () => {
    throw new AgentError('NOT_FOUND', 'No image debian');
  });
  const first = await create(lab, {}, 'key-1');
  t.equal(first.status, 404);
  t.same((await create(lab, {}, 'key-1')).body, first.body);
  t.equal(agent.received('instance.create').length, 1);
  t.match((await lab.get('/v1/instances/web-1')).body.instance, {
    phase: 'failed',
    error: { code: 'NOT_FOUND' },
  });
  t.equal((await lab.post('/v1/instances/web-1/start')).status, 404);
});

t.test('a name is taken until its instance is gone or has failed', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const first = await create(lab);
  const second = await create(lab);
  t.equal(second.status, 409);
  t.match(second.body.error, { code: 'ALREADY_EXISTS', details: { id: first.body.instance.id } });
  agent.remove(first.body.instance.id);
  agent.move(first.body.operation.id, { state: 'failed', error: { code: 'INTERNAL', message: 'x' } });
  await eventually(async () => (await lab.get('/v1/instances/web-1')).body.instance.phase === 'failed');
  t.equal((await create(lab)).status, 202);
});

t.test(
  'when the link dies before the answer, the command is sent again with its key and done once',
  async (t) => {
    const lab = await startLab(t);
    const agent = await lab.node();
    agent.hold('instance.create');
    const creating = create(lab, {}, 'key-1');
    await eventually(() => agent.received('instance.create').length === 1);
    await agent.drop();
    await isGone(lab, agent);
    agent.release('instance.create');
    await agent.connect();
    const created = await creating;
    t.equal(created.status, 202);
    const [first, again] = agent.received('instance.create');
    t.same(again, first);
    t.equal(agent.instances.size, 1);
    t.equal(created.body.operation.id, [...agent.operations.keys()][0]);
  },
);

t.test('when a new link takes over before the answer, the command is sent again on it', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.hold('instance.create');
  const creating = create(lab);
  await eventually(() => agent.received('instance.create').length === 1);
  agent.release('instance.create');
  await agent.connect(); // the first link is still open
  t.match((await creating).body.operation, { kind: 'instance.create' });
  t.equal(agent.instances.size, 1);
});

t.test('when the scheduler dies before the answer, the next one sends the command again', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  agent.hold('instance.create');
  const creating = create(lab, {}, 'key-1');
  await eventually(() => agent.received('instance.create').length === 1);
  const epoch = lab.scheduler.epoch;
  await lab.restart();
  const { body } = await creating;
  t.match(body, { instance: { name: 'web-1' }, operation: null }, 'what is known is told');
  agent.release('instance.create');
  await agent.connect();
  const created = await create(lab, {}, 'key-1');
  t.match(created.body.operation, { kind: 'instance.create' });
  const [first, again] = agent.received('instance.create');
  t.equal(again?.['key'], first?.['key']);
  t.ok((again?.['epoch'] as number) > epoch);
  t.equal(agent.instances.size, 1);
});

t.test(
  'a node that does not answer in time is asked again, and the caller is told what is known',
  async (t) => {
    const clock = new ManualClock();
    const lab = await startLab(t, clock);
    const agent = await lab.node();
    agent.hold('instance.create');
    const creating = create(lab);
    await eventually(() => agent.received('instance.create').length === 1);
    const settled = await eventually(async () => {
      agent.heartbeat();
      clock.advance(500);
      await lab.get('/healthz');
      return agent.received('instance.create').length >= 2 && (await creating);
    });
    t.match(settled, { status: 202, body: { instance: { name: 'web-1' }, operation: null } });
    agent.release('instance.create');
    await eventually(async () => {
      agent.heartbeat();
      clock.advance(500);
      return (await lab.get('/v1/instances/web-1')).body.instance.operation !== null;
    });
    t.equal(agent.instances.size, 1);
  },
);

t.test('the node with most free memory is chosen, and claims count before the node does', async (t) => {
  const lab = await startLab(t);
  const big = await lab.node({ hostname: 'big', total: { MEMORY_MB: 4096 } });
  const small = await lab.node({ hostname: 'small', total: { MEMORY_MB: 3072 } });
  for (const agent of [big, small]) {
    await lab.post(`/v1/nodes/${agent.nodeId}/poll`); // so that no inventory comes in between
    agent.hold('instance.create');
  }
  const names = ['a', 'b', 'c', 'd'];
  const creations = names.map((name) => create(lab, { name, memoryMib: 1024 }));
  await eventually(
    () => big.received('instance.create').length + small.received('instance.create').length === 4,
  );
  t.equal(big.received('instance.create').length, 2);
  const { body } = await lab.get('/v1/nodes/big');
  t.equal(body.node.claimed.MEMORY_MB, 2 * memoryClaimMib(aSpec({ memoryMib: 1024 })));
  for (const agent of [big, small]) await agent.drop();
  for (const agent of [big, small]) agent.release('instance.create');
  for (const agent of [big, small]) await agent.connect();
  t.ok((await Promise.all(creations)).every(({ status }) => status === 202));
});

t.test('a claim is released when the node counts the instance, so that room is counted once', async (t) => {
  const lab = await startLab(t);
  await lab.node({ hostname: 'alpha', total: { VCPU: 4 } });
  await create(lab, { name: 'a' });
  const counted = await eventually(async () => {
    const { node } = (await lab.get('/v1/nodes/alpha')).body;
    return node.claimed.VCPU === 0 && node;
  });
  t.equal(counted.room.VCPU, 2);
  t.equal((await create(lab, { name: 'b' })).status, 202);
  await eventually(async () => (await lab.get('/v1/nodes/alpha')).body.node.claimed.VCPU === 0);
  const { status, body } = await create(lab, { name: 'c' });
  t.equal(status, 409);
  t.match(body.error, {
    code: 'CAPACITY_EXCEEDED',
    details: { nodes: [{ hostname: 'alpha', reason: 'VCPU: 2 needed, 0 left' }] },
  });
});

t.test('a refused or failed creation gives its claim back', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  agent.answer('instance.create', () => {
    throw new AgentError('INTERNAL', 'It broke');
  });
  t.equal((await create(lab)).status, 500);
  t.equal((await lab.get('/v1/nodes/alpha')).body.node.claimed.VCPU, 0);
});

t.test('a node that lacks the image is passed over for the next one', async (t) => {
  const lab = await startLab(t);
  const without = await lab.node({ hostname: 'without', total: { MEMORY_MB: 65_536 } });
  const having = await lab.node({ hostname: 'having' });
  without.answer('instance.create', () => {
    throw new AgentError('NOT_FOUND', 'No image debian');
  });
  const { status, body } = await create(lab);
  t.equal(status, 202);
  t.equal(body.instance.node, having.nodeId);
  t.equal(without.received('instance.create').length, 1);
  t.equal((await lab.get('/v1/nodes/without')).body.node.claimed.MEMORY_MB, 0);
});

t.test('when no node takes it, each says why', async (t) => {
  const lab = await startLab(t);
  const lacking = await lab.node({ hostname: 'lacking' });
  lacking.answer('instance.create', () => {
    throw new AgentError('NOT_FOUND', 'No image debian');
  });
  await lab.node({ hostname: 'full', total: { VCPU: 1 } });
  const gone = await lab.node({ hostname: 'gone' });
  await gone.drop();
  await isGone(lab, gone);
  const { status, body } = await create(lab);
  t.equal(status, 409);
  t.equal(body.error.code, 'CAPACITY_EXCEEDED');
  const reasons = body.error.details.nodes.map((no: { hostname: string; reason: string }) => [
    no.hostname,
    no.reason,
  ]);
  t.same(reasons.toSorted(), [
    ['full', 'VCPU: 2 needed, 1 left'],
    ['gone', 'it is not connected'],
    ['lacking', 'No image debian'],
  ]);
});

t.test('a node that is named is the only one tried', async (t) => {
  const lab = await startLab(t);
  const named = await lab.node({ hostname: 'named' });
  await lab.node({ hostname: 'other' });
  named.answer('instance.create', () => {
    throw new AgentError('NOT_FOUND', 'No network lan');
  });
  const { status, body } = await create(lab, {}, undefined, 'named');
  t.equal(status, 404);
  t.equal(body.error.message, 'No network lan');
  t.equal((await create(lab, {}, undefined, 'nowhere')).status, 404);
});

t.test('no more than five nodes are tried', async (t) => {
  const lab = await startLab(t);
  const agents = await Promise.all(Array.from({ length: 7 }, () => lab.node()));
  for (const agent of agents) {
    agent.answer('instance.create', () => {
      throw new AgentError('UNAVAILABLE', 'libvirt does not answer');
    });
  }
  const { status } = await create(lab);
  t.equal(status, 503);
  t.equal(agents.filter((agent) => agent.received('instance.create').length === 1).length, 5);
});

t.test('without any node, or with none connected, a creation is refused and leaves nothing', async (t) => {
  const lab = await startLab(t);
  t.equal((await create(lab, {}, 'key-1')).status, 503);
  t.same((await lab.get('/v1/instances')).body.instances, []);
  await lab.node();
  t.equal((await create(lab, {}, 'key-1')).status, 202, 'and its key is free');
});

t.test('a command to an instance whose node is gone is refused before it is taken', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await create(lab);
  await agent.drop();
  await isGone(lab, agent);
  const { status, body } = await lab.post('/v1/instances/web-1/stop');
  t.equal(status, 503);
  t.equal(body.error.code, 'UNAVAILABLE');
  await agent.connect();
  await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
  t.same(agent.received('instance.stop'), []);
});

t.test('an operation that fails late fails its instance, with the reason', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const { body } = await create(lab);
  const error = { code: 'IMAGE_REFUSED' as const, message: 'The image has a backing file' };
  agent.move(body.operation.id, { state: 'undoing' });
  agent.remove(body.instance.id);
  agent.move(body.operation.id, { state: 'failed', error });
  const waited = await lab.get(`/v1/operations/${agent.nodeId}/${body.operation.id}?wait=10`);
  t.match(waited.body.operation, { state: 'failed', error });
  t.match((await lab.get('/v1/instances/web-1')).body.instance, { phase: 'failed', error });
});

t.test('an operation only moves forward, whatever order its views come in', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const { operation } = (await create(lab)).body;
  agent.finishCreation(operation);
  agent.emit('operation.changed', { operation: { ...operation, state: 'running' } });
  await eventually(() => agent.acked === agent.events.at(-1)?.seq);
  t.equal((await lab.get(`/v1/operations/${operation.id}`)).body.operation.state, 'succeeded');
});

t.test('an operation that is not known here is asked of its node', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  const operation = anOperation('image.import', { id: agent.nodeId, name: 'debian' });
  agent.operations.set(operation.id, operation);
  const unknown = await lab.get(`/v1/operations/${operation.id}`);
  t.equal(unknown.status, 404);
  t.match(unknown.body.error.hint, /node/);
  t.same((await lab.get(`/v1/operations/alpha/${operation.id}`)).body, { node: agent.nodeId, operation });
});

t.test('waiting for an operation ends with the time that was asked for', async (t) => {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  await lab.node();
  const { operation } = (await create(lab)).body;
  let done = false;
  const waiting = lab.get(`/v1/operations/${operation.id}?wait=2`).finally(() => {
    done = true;
  });
  await eventually(async () => {
    clock.advance(100);
    await lab.get('/healthz');
    return done;
  });
  t.equal((await waiting).body.operation.state, 'pending');
  t.equal((await lab.get(`/v1/operations/${operation.id}?wait=61`)).status, 400);
});

t.test('a scheduler that a newer one has superseded is refused by the nodes, and says so', async (t) => {
  const [older, newer] = [await startLab(t), await startLab(t, anHourLater())];
  t.ok(newer.scheduler.epoch > older.scheduler.epoch);
  const agent = await older.node();
  t.equal((await create(older)).status, 202);
  await agent.drop();
  agent.url = newer.url;
  await agent.connect();
  t.equal((await create(newer, { name: 'web-2' })).status, 202);
  await agent.drop();
  agent.url = older.url;
  await agent.connect();
  const { status, body } = await create(older, { name: 'web-3' });
  t.equal(status, 412);
  t.match(body.error, { code: 'STALE', details: { epoch: newer.scheduler.epoch } });
  t.equal(agent.instances.size, 2);
});

t.test('a restarted scheduler knows nodes, instances and operations from its database', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  const { operation, instance } = (await create(lab)).body;
  agent.finishCreation(operation);
  await lab.get(`/v1/operations/${operation.id}?wait=10`);
  const { epoch } = lab.scheduler;
  await lab.restart();
  t.ok(lab.scheduler.epoch > epoch);
  t.match((await lab.get('/v1/nodes/alpha')).body.node, {
    id: agent.nodeId,
    connected: false,
    state: 'ready',
  });
  t.match((await lab.get('/v1/instances/web-1')).body.instance, { id: instance.id, phase: 'present' });
  t.equal((await lab.get(`/v1/operations/${operation.id}`)).body.operation.state, 'succeeded');
  t.equal((await agent.connect()).lastSeq, agent.events.length, 'and goes on after the last event');
});

function anHourLater(): ManualClock {
  const clock = new ManualClock();
  clock.advance(Date.now() + 3_600_000 - clock.now());
  return clock;
}
