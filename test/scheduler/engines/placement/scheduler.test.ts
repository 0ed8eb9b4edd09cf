/** The scheduler on a real Placement: instances are placed, counted and forgotten there, whatever dies in between. */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { eventually } from '../../support/eventually.ts';
import type { FakeAgent } from '../../support/fake-agent.ts';
import { type Lab, startLab } from '../../support/lab.ts';
import { PlacementService, placementMissing } from '../../support/placement-service.ts';
import { aSpec } from '../../support/samples.ts';

if (placementMissing) {
  t.test('the scheduler on a real Placement', { skip: placementMissing }, async () => undefined);
} else {
  const service = new PlacementService();
  await service.start();
  t.teardown(() => service.close());
  const start = (t: Test) => startLab(t, undefined, { engine: { name: 'placement', ...service } });

  const create = (lab: Lab, name: string, more: object = {}) =>
    lab.post('/v1/instances', { spec: aSpec({ name }), ...more });

  const allocationsOn = async (agent: FakeAgent): Promise<string[]> => {
    const { status, body } = await service.ask('GET', `/resource_providers/${agent.nodeId}/allocations`);
    return status === 200 ? Object.keys(body.allocations) : [];
  };

  const roomOn = async (agent: FakeAgent): Promise<number> => {
    const path = `/resource_providers/${agent.nodeId}`;
    const { VCPU } = (await service.ask('GET', `${path}/inventories`)).body.inventories;
    const { usages } = (await service.ask('GET', `${path}/usages`)).body;
    return VCPU.total - VCPU.reserved - usages.VCPU;
  };

  /** A connected agent that Placement knows. */
  const node = async (lab: Lab, total: FakeAgentTotal = {}): Promise<FakeAgent> => {
    const agent = await lab.node({ total });
    const path = `/resource_providers/${agent.nodeId}/inventories`;
    await eventually(async () => (await service.ask('GET', path)).body.inventories?.VCPU !== undefined);
    return agent;
  };

  t.test('an instance has its allocation from before it is sent until it is gone', async (t) => {
    const lab = await start(t);
    const agent = await node(lab);
    const created = await create(lab, 'web', { node: agent.nodeId });
    t.equal(created.status, 202);
    const { id } = created.body.instance;
    t.same(await allocationsOn(agent), [id]);
    agent.finishCreation(created.body.operation);
    await eventually(async () => (await lab.get('/v1/instances/web')).body.instance.phase === 'present');
    t.equal(await roomOn(agent), 14);
    agent.remove(id);
    await eventually(async () => (await allocationsOn(agent)).length === 0);
    await lab.post(`/v1/nodes/${agent.nodeId}/poll`);
    await eventually(async () => (await roomOn(agent)) === 16);
  });

  t.test('what a node has that was not made here is reserved in Placement', async (t) => {
    const lab = await start(t);
    const agent = await node(lab);
    agent.instances.set(randomUUID(), { spec: aSpec() } as never);
    agent.heartbeat({ inventory: agent.inventory() });
    await eventually(async () => (await roomOn(agent)) === 14);
    agent.instances.clear();
    agent.heartbeat({ inventory: agent.inventory() });
    await eventually(async () => (await roomOn(agent)) === 16);
  });

  t.test('a node that drains is disabled in Placement, and takes nothing', async (t) => {
    const lab = await start(t);
    const agent = await node(lab);
    await lab.post(`/v1/nodes/${agent.nodeId}/state`, { state: 'draining', reason: 'x' });
    const path = `/resource_providers/${agent.nodeId}/traits`;
    await eventually(async () =>
      (await service.ask('GET', path)).body.traits.includes('COMPUTE_STATUS_DISABLED'),
    );
    const { status, body } = await create(lab, 'web', { node: agent.nodeId });
    t.equal(status, 503);
    t.match(body.error.message, /it is draining/);
  });

  t.test(
    'where there is no room, each node says what is short; what was refused has no allocation',
    async (t) => {
      const lab = await start(t);
      const agent = await node(lab, { VCPU: 1 });
      const { status, body } = await create(lab, 'web', { node: agent.nodeId });
      t.equal(status, 409);
      t.match(body.error.message, /VCPU: 2 needed, 1 left/);
      t.same(await allocationsOn(agent), []);
    },
  );

  t.test(
    'after a restart, allocations of instances that are gone go, and those of others stay',
    async (t) => {
      const lab = await start(t);
      const agent = await node(lab);
      const { instance } = (await create(lab, 'web', { node: agent.nodeId })).body;
      const owner = (await service.ask('GET', `/allocations/${instance.id}`)).body.user_id;
      const [leak, foreign] = [randomUUID(), randomUUID()];
      for (const [consumer, user] of [
        [leak, owner],
        [foreign, 'nova'],
      ]) {
        const made = await service.ask('PUT', `/allocations/${consumer}`, {
          allocations: { [agent.nodeId]: { resources: { VCPU: 1 } } },
          project_id: 'berth',
          user_id: user,
          consumer_generation: null,
          consumer_type: 'INSTANCE',
        });
        t.equal(made.status, 204);
      }
      await lab.restart();
      await eventually(async () => !(await allocationsOn(agent)).includes(leak));
      t.same((await allocationsOn(agent)).toSorted(), [instance.id, foreign].toSorted());
    },
  );

  t.test('a Placement that has lost a claim is given it again at the next start', async (t) => {
    const lab = await start(t);
    const agent = await node(lab);
    const { instance } = (await create(lab, 'web', { node: agent.nodeId })).body;
    await service.ask('DELETE', `/allocations/${instance.id}`);
    await lab.restart();
    await eventually(async () => (await allocationsOn(agent)).includes(instance.id));
  });
}

type FakeAgentTotal = { VCPU?: number };
