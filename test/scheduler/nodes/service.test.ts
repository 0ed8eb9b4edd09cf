/** The service of nodes: what operators take out of service gets nothing new, and loses nothing. */
import t from 'tap';
import { eventually } from '../support/eventually.ts';
import { type Lab, startLab } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { aSpec } from '../support/samples.ts';

function create(lab: Lab, name: string, node?: string) {
  return lab.post('/v1/instances', { spec: aSpec({ name }), ...(node ? { node } : {}) });
}

function set(lab: Lab, node: string, state: string, reason = 'a new disk') {
  return lab.post(`/v1/nodes/${node}/state`, { state, reason });
}

t.test('a draining node gets no new instance, not even by name, and keeps those it has', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  agent.finishCreation((await create(lab, 'before')).body.operation);
  const answer = await set(lab, 'alpha', 'draining');
  t.equal(answer.status, 200);
  t.match(answer.body.node, { state: 'draining', service: 'draining', reason: 'a new disk', instances: 1 });
  for (const node of [undefined, 'alpha']) {
    const { status, body } = await create(lab, 'after', node);
    t.equal(status, 503);
    t.match(body.error.message, /alpha: it is draining since 20.*: a new disk/);
  }
  t.equal((await lab.post('/v1/instances/before/stop')).status, 202);
  t.equal((await lab.post('/v1/instances/before/start')).status, 202);
  t.equal((await set(lab, 'alpha', 'ready')).body.node.state, 'ready');
  t.equal((await create(lab, 'after')).status, 202);
});

t.test('on a node in maintenance nothing is started either, and nothing is stopped by it', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node({ hostname: 'alpha' });
  agent.finishCreation((await create(lab, 'web')).body.operation);
  await set(lab, 'alpha', 'maintenance');
  const started = await lab.post('/v1/instances/web/start');
  t.equal(started.status, 409);
  t.match(started.body.error, { code: 'ILLEGAL_STATE', message: /alpha: it is in maintenance since/ });
  t.same(agent.received('instance.stop'), []);
  t.equal((await lab.post('/v1/instances/web/stop')).status, 202);
  t.equal((await create(lab, 'other')).status, 503);
});

t.test(
  'a state outlives a restart and a loss of the node, and keeps its since when it is repeated',
  async (t) => {
    const clock = new ManualClock();
    const lab = await startLab(t, clock);
    const agent = await lab.node({ hostname: 'alpha' });
    const first = (await set(lab, 'alpha', 'draining')).body.node;
    clock.advance(1_000);
    t.same((await set(lab, 'alpha', 'draining', 'another reason')).body.node.since, first.since);
    await agent.drop();
    clock.advance(20_000);
    const show = async () => (await lab.get('/v1/nodes/alpha')).body.node;
    t.match(await show(), { state: 'lost', service: 'draining', reason: 'no heartbeat for 15 s' });
    await lab.restart();
    await agent.connect();
    await eventually(async () => (await show()).state === 'draining');
    t.match(await show(), { reason: 'a new disk', since: first.since });
  },
);

t.test('what is no state, or has no reason, is refused', async (t) => {
  const lab = await startLab(t);
  await lab.node({ hostname: 'alpha' });
  for (const body of [
    { state: 'lost', reason: 'x' },
    { state: 'draining' },
    { state: 'draining', reason: '' },
    { state: 'draining', reason: 'two\nlines' },
    { state: 'draining', reason: 'x'.repeat(501) },
    { state: 'draining', reason: 'x', force: true },
  ]) {
    t.equal((await lab.post('/v1/nodes/alpha/state', body)).status, 400, JSON.stringify(body).slice(0, 60));
  }
  t.equal((await set(lab, 'nowhere', 'ready')).status, 404);
  t.equal((await lab.get('/v1/nodes/alpha')).body.node.state, 'ready');
});
