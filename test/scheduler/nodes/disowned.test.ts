/** What a node is told of instances that it has and should not. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { eventually } from '../support/eventually.ts';
import type { FakeAgent } from '../support/fake-agent.ts';
import { type Lab, startLab } from '../support/lab.ts';
import { anInstance, aSpec } from '../support/samples.ts';

/** Makes an instance that the scheduler knows on this node. */
async function instanceOn(lab: Lab, agent: FakeAgent, name: string): Promise<string> {
  const id = randomUUID();
  const instance = { ...anInstance(id, aSpec({ name })), lifecycle: 'ready' as const };
  agent.instances.set(id, instance);
  agent.emit('instance.created', { instance });
  await eventually(async () => (await lab.get(`/v1/instances/${id}`)).status === 200);
  return id;
}

/** The node comes back, and says what it has. */
async function returning(agent: FakeAgent, instances: string[]): Promise<string[] | undefined> {
  await agent.drop();
  const hello = agent.hello.bind(agent);
  agent.hello = () => ({ ...hello(), instances, lastContactAt: null });
  return (await agent.connect()).disowned;
}

t.test(
  'an instance that is on another node by now is disowned; its own, and unknown ones, are not',
  async (t) => {
    const lab = await startLab(t);
    const [first, second] = [await lab.node(), await lab.node()];
    const own = await instanceOn(lab, first, 'own');
    const moved = await instanceOn(lab, second, 'moved');
    t.same(await returning(first, [own, moved, randomUUID()]), [moved]);
    t.equal(await returning(second, [moved]), undefined, 'where it is, it is not disowned');
  },
);

t.test('an instance that was deleted here is disowned where it turns up again', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  const id = await instanceOn(lab, agent, 'gone');
  t.equal((await lab.ask('DELETE', `/v1/instances/${id}`)).status, 202);
  agent.remove(id);
  await eventually(async () => (await lab.get(`/v1/instances/${id}`)).status === 404);
  t.same(await returning(agent, [id]), [id]);
});

t.test('a hello of an older agent, that names nothing, is taken', async (t) => {
  const lab = await startLab(t);
  const agent = await lab.node();
  await agent.drop();
  t.equal((await agent.connect()).disowned, undefined);
});

t.test('a hello that names what is no id is refused', async (t) => {
  const lab = await startLab(t);
  const agent = lab.agent();
  await agent.open();
  agent.say({
    jsonrpc: '2.0',
    id: 'hello',
    method: 'hello',
    params: { ...agent.hello(), instances: ["'; DROP TABLE instances; --"] },
  });
  await eventually(() => agent.closeCode !== null);
  t.equal((await lab.get('/v1/nodes')).body.nodes.length, 0);
});
