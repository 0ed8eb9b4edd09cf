/** Placement as callers of the HTTP API ask for it. */
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import type { PlacementRequest } from '../../../src/scheduler/placement/request.ts';
import { eventually } from '../support/eventually.ts';
import { type Lab, startLab } from '../support/lab.ts';
import { aSpec } from '../support/samples.ts';

function create(lab: Lab, name: string, placement: PlacementRequest, key?: string) {
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key };
  return lab.post('/v1/instances', { spec: aSpec({ name }), placement }, headers);
}

t.test(
  'members of a group that keeps apart go to different nodes, also when they come together',
  async (t) => {
    const lab = await startLab(t);
    await lab.node();
    await lab.node();
    const placement: PlacementRequest = { group: { name: 'db', policy: 'anti-affinity' } };
    const answers = await Promise.all(['a', 'b', 'c'].map((name) => create(lab, name, placement)));
    const made = answers.filter(({ status }) => status === 202).map(({ body }) => body.instance);
    t.equal(new Set(made.map(({ node }) => node)).size, 2);
    t.same(made[0].placement, placement);
    const refused = answers.find(({ status }) => status !== 202);
    t.equal(refused?.body.error.code, 'CAPACITY_EXCEEDED');
    t.match(refused?.body.error.message, /it has an instance of group db; .*it has an instance of group db/);
  },
);

t.test('members of a group that keeps together follow the first, and fail with its node', async (t) => {
  const lab = await startLab(t);
  const [one, other] = [await lab.node(), await lab.node()];
  const placement: PlacementRequest = { group: { name: 'db', policy: 'affinity' } };
  const first = (await create(lab, 'a', placement)).body.instance;
  t.equal((await create(lab, 'b', placement)).body.instance.node, first.node);
  const home = [one, other].find(({ nodeId }) => nodeId === first.node);
  home?.answer('instance.create', () => {
    throw new AgentError('CAPACITY_EXCEEDED', 'no more');
  });
  const { status, body } = await create(lab, 'c', placement);
  t.equal(status, 409);
  t.match(body.error.message, /no more; .*group db is on another node/);
});

t.test('a group has one policy', async (t) => {
  const lab = await startLab(t);
  await lab.node();
  await create(lab, 'a', { group: { name: 'db', policy: 'affinity' } });
  const { status, body } = await create(lab, 'b', { group: { name: 'db', policy: 'anti-affinity' } });
  t.equal(status, 400);
  t.match(body.error.message, /Group db has the policy affinity/);
});

t.test('packed, instances go where least room is left; spread, where most is', async (t) => {
  const lab = await startLab(t);
  const [large, small] = [await lab.node(), await lab.node({ total: { MEMORY_MB: 8192 } })];
  t.equal((await create(lab, 'a', { policy: 'pack' })).body.instance.node, small.nodeId);
  t.equal((await create(lab, 'b', { policy: 'pack' })).body.instance.node, small.nodeId);
  t.equal((await create(lab, 'c', {})).body.instance.node, large.nodeId);
});

t.test('what no node has of traits and devices is told of each node', async (t) => {
  const lab = await startLab(t);
  await lab.node({ hostname: 'alpha' });
  const traits = await create(lab, 'a', { requiredTraits: ['HW_CPU_X86_AVX2'] });
  t.equal(traits.status, 501);
  t.match(traits.body.error.message, /alpha: it lacks HW_CPU_X86_AVX2/);
  const devices = await create(lab, 'a', { devices: { VGPU: 1 } });
  t.equal(devices.status, 409);
  t.match(devices.body.error.message, /alpha: VGPU: 1 needed, 0 left/);
  t.equal((await create(lab, 'a', { forbiddenTraits: ['HW_CPU_X86_AVX2'] })).status, 202);
});

t.test('a key for another placement is another request', async (t) => {
  const lab = await startLab(t);
  await lab.node();
  const first = await create(lab, 'a', { policy: 'pack' }, 'key-1');
  t.same((await create(lab, 'a', { policy: 'pack' }, 'key-1')).body, first.body);
  t.equal((await create(lab, 'a', {}, 'key-1')).body.error.code, 'KEY_REUSED');
});

t.test('hostile requests for placement are refused before anything is placed', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const wrong: unknown[] = [
    { policy: 'best' },
    { requiredTraits: ['lower'] },
    { requiredTraits: ['A', 'A'] },
    { requiredTraits: ['!COMPUTE_STATUS_DISABLED'] },
    { requiredTraits: Array.from({ length: 65 }, (_, at) => `T${at}`) },
    { devices: { VGPU: 0 } },
    { devices: { VGPU: 1.5 } },
    { devices: { 'VGPU&limit=1': 1 } },
    { devices: { VGPU: 1e9 } },
    { group: { name: 'db' } },
    { group: { name: '../db', policy: 'affinity' } },
    { node: 'x' },
    [],
  ];
  for (const placement of wrong) {
    const { status } = await lab.post('/v1/instances', { spec: aSpec(), placement });
    t.equal(status, 400, JSON.stringify(placement).slice(0, 60));
  }
  t.same(agent.received('instance.create'), []);
});

t.test(
  'where a claim is lost to another, the next node is claimed, and the caller never knows',
  async (t) => {
    const lab = await startLab(t);
    await lab.node({ total: { VCPU: 2 } });
    await lab.node({ total: { VCPU: 2, MEMORY_MB: 4096 } });
    const answers = await Promise.all(['a', 'b', 'c'].map((name) => create(lab, name, {})));
    t.same(answers.map(({ status }) => status).toSorted(), [202, 202, 409]);
    await eventually(async () => (await lab.get('/v1/nodes')).body.nodes.length === 2);
  },
);
