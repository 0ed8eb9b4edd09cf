/** Fences: nothing runs twice, whatever operators and nodes do in whichever order. */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runAdmin } from '../../../src/scheduler/admin.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { Inventory } from '../../../src/model/node.ts';
import { eventually } from '../support/eventually.ts';
import { FakeAgent, type FakeAgentOptions } from '../support/fake-agent.ts';
import { type Lab, startLab, TOKEN } from '../support/lab.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { aSpec } from '../support/samples.ts';

const WHO = { by: 'an operator', reason: 'pulled its power' };
const VOLUME = '0b5ce0c2-6f8f-4c57-9c8e-5a7d8f0f4a11';

/** A node with a pool that others have, too. */
class SharedAgent extends FakeAgent {
  pools = ['common'];

  override inventory(): Inventory {
    const pool = { fileSystem: 'nfs', shared: true, room: 'ok' as const, disk: null, state: 'ok' as const };
    return { ...super.inventory(), pools: this.pools.map((name) => ({ name, ...pool })) };
  }
}

interface Scene {
  lab: Lab;
  clock: ManualClock;
  old: SharedAgent;
  id: string;
  /** Connects another node. */
  agent(options: Partial<FakeAgentOptions>, pools?: string[]): Promise<SharedAgent>;
  lose(): Promise<void>;
  restart(body?: object, key?: string): ReturnType<Lab['post']>;
}

/** An instance on a node, with its one disk in the pool. */
async function scene(t: Test, pool = 'common'): Promise<Scene> {
  const clock = new ManualClock();
  const lab = await startLab(t, clock);
  const others: SharedAgent[] = [];
  const agent = async (options: Partial<FakeAgentOptions>, pools = ['common']) => {
    const made = new SharedAgent({ url: lab.url, token: 'a-token-for-tests-only', ...options });
    made.pools = pools;
    others.push(made);
    t.teardown(() => made.drop());
    await made.connect();
    return made;
  };
  const old = await agent({ hostname: 'old' });
  const { body } = await lab.post('/v1/instances', { spec: aSpec(), node: 'old' });
  const { id } = body.instance;
  const disk = { volumeId: VOLUME, volume: 'root', pool, sizeGib: 10, deletedWithInstance: true };
  old.instances.set(id, { ...old.instances.get(id)!, disks: [disk] });
  old.finishCreation(body.operation);
  await eventually(async () => (await lab.get('/v1/instances/web-1')).body.instance.phase === 'present');
  const lose = async () => {
    await old.drop();
    const show = async (name: string) => (await lab.get(`/v1/nodes/${name}`)).body.node;
    await eventually(async () => !(await show('old')).connected);
    for (const _ of [1, 2, 3]) {
      clock.advance(5_000);
      for (const other of others.filter((each) => each !== old)) {
        other.heartbeat();
        await eventually(async () => Date.parse((await show(other.nodeId)).heardAt) === clock.now());
      }
    }
  };
  const restart = (body: object = {}, key = 'a-key') =>
    lab.post('/v1/instances/web-1/restart-elsewhere', { ...WHO, ...body }, { 'idempotency-key': key });
  return { lab, clock, old, id, agent, lose, restart };
}

t.test('a node that is heard of is not fenced, and a lapsed lease alone lets nothing move', async (t) => {
  const { lab, lose, restart } = await scene(t);
  t.match((await lab.get('/v1/nodes/old')).body.node, { leaseUntil: /^20/, fence: null });
  const early = await lab.post('/v1/nodes/old/fence', WHO);
  t.equal(early.status, 409);
  t.match(early.body.error.message, /old is not lost: its lease has not lapsed/);
  t.match((await restart()).body.error, { code: 'ILLEGAL_STATE', message: /it is not lost/ });
  await lose();
  t.match((await restart()).body.error, {
    code: 'ILLEGAL_STATE',
    message: /may run its guests where nobody sees/,
  });
});

t.test('an instance of a fenced node is made again on a node with its pools, by its volumes', async (t) => {
  const { lab, lose, restart, agent, id, old } = await scene(t);
  const other = await agent({ hostname: 'other' });
  await agent({ hostname: 'without', total: { MEMORY_MB: 999_999 } }, []);
  await lose();
  const fenced = (await lab.post('/v1/nodes/old/fence', WHO)).body.node;
  t.match(fenced, { state: 'lost', fence: { number: 1, ...WHO } });
  const { status, body } = await restart();
  t.equal(status, 202);
  t.match(body.instance, { id, hostname: 'other' });
  t.match(other.received('instance.takeover'), [
    {
      id,
      spec: { name: 'web-1', disks: [{ volume: VOLUME }] },
      from: { node: old.nodeId, fence: 1 },
      volumes: [{ id: VOLUME, name: 'root', pool: 'common', sizeGib: 10 }],
    },
  ]);
  t.same((await restart()).body, body, 'a repeat gets the same answer');
  t.equal(other.received('instance.takeover').length, 1);
  const { entries } = (await lab.get('/v1/operator-log')).body;
  t.match(entries, [
    { number: 1, action: 'node.fence', ...WHO },
    { action: 'instance.restart-elsewhere', instanceId: id, ...WHO },
  ]);
});

t.test('a fenced node that comes back is told what has moved, before anything is sent to it', async (t) => {
  const { lab, lose, restart, agent, id, old } = await scene(t);
  old.hold('instance.stop');
  const stop = () => lab.post('/v1/instances/web-1/stop', {}, { 'idempotency-key': 'stop' });
  const stopping = stop();
  await eventually(() => old.received('instance.stop').length === 1);
  await agent({ hostname: 'other' });
  await lose();
  await lab.post('/v1/nodes/old/fence', WHO);
  t.equal((await restart()).status, 202);
  await stopping;
  t.match((await stop()).body.error, { code: 'STALE', message: /restarted on another node/ });
  const limits = { messageBytes: 1_000_000, requests: 8 };
  const link = { version: '1.1', features: [], limits, outbox: { id: randomUUID(), keptAfter: 0 } };
  old.hello = () => ({ ...FakeAgent.prototype.hello.call(old), instances: [id], link });
  const welcome = await old.connect();
  t.same(welcome.disowned, [id]);
  t.equal(welcome.link?.fences, 1, 'and that its fence has ended, which nobody takes anything by any more');
  const { node } = (await lab.get('/v1/nodes/old')).body;
  t.match(node, { fence: null, state: 'ready' });
  t.equal(old.received('instance.stop').length, 1, 'what was asked of it before is not sent again');
  t.equal((await lab.get('/v1/instances/web-1')).body.instance.hostname, 'other');
});

t.test('a node that comes back is not fenced any more: what is still there does not move', async (t) => {
  const { lab, lose, restart, agent, old } = await scene(t);
  await agent({ hostname: 'other' });
  await lose();
  await lab.post('/v1/nodes/old/fence', WHO);
  await old.connect();
  t.match((await restart()).body.error, { code: 'ILLEGAL_STATE', message: /it is not lost/ });
  await lose();
  t.match((await restart()).body.error, { code: 'ILLEGAL_STATE' }, 'the fence of before does not count');
  t.match((await lab.post('/v1/nodes/old/fence', WHO)).body.node.fence, { number: 2 });
  await lab.post('/v1/nodes/old/unfence', WHO);
  t.match((await restart()).body.error, { code: 'ILLEGAL_STATE' });
});

t.test('where the new node refuses, the instance stays with the old one', async (t) => {
  const { lab, lose, restart, agent, id } = await scene(t);
  const other = await agent({ hostname: 'other' });
  other.answer('instance.takeover', () => {
    throw new AgentError('NOT_FOUND', 'no such volume');
  });
  await lose();
  await lab.post('/v1/nodes/old/fence', WHO);
  const { status } = await restart();
  t.equal(status, 409);
  t.match((await lab.get(`/v1/instances/${id}`)).body.instance, { hostname: 'old', phase: 'present' });
});

t.test("where the restart on the new node fails, the instance is the old one's again", async (t) => {
  const { lab, lose, restart, agent, id } = await scene(t);
  const other = await agent({ hostname: 'other' });
  await lose();
  await lab.post('/v1/nodes/old/fence', WHO);
  const { body } = await restart();
  t.match((await lab.get(`/v1/instances/${id}`)).body.instance, { hostname: 'other' });
  other.failCreation(body.operation, new AgentError('ILLEGAL_STATE', 'a guest uses the volume'));
  const show = async () => (await lab.get(`/v1/instances/${id}`)).body.instance;
  await eventually(async () => (await show()).hostname === 'old');
  t.match(await show(), { phase: 'present', error: { code: 'ILLEGAL_STATE' } });
  t.match((await restart({}, 'again')).status, 202, 'and can be restarted again');
});

t.test('an instance with a disk that only its node has is not restarted elsewhere', async (t) => {
  const { lab, lose, restart, agent } = await scene(t, 'local');
  await agent({ hostname: 'other' });
  await lose();
  await lab.post('/v1/nodes/old/fence', WHO);
  const { status, body } = await restart();
  t.equal(status, 501);
  t.match(body.error, { message: /volume root in pool local/, hint: /backup\.recreate/ });
});

t.test('who and why are needed, in one line each', async (t) => {
  const { lab, lose } = await scene(t);
  await lose();
  for (const body of [
    {},
    { by: 'x' },
    { reason: 'x' },
    { by: '', reason: 'x' },
    { by: 'x\ny', reason: 'x' },
  ]) {
    t.equal((await lab.post('/v1/nodes/old/fence', body)).status, 400, JSON.stringify(body));
  }
});

t.test('an operator fences and restarts by the command line', async (t) => {
  const { lab, lose, agent } = await scene(t);
  await agent({ hostname: 'other' });
  await lose();
  const tokenFile = join(lab.stateDir, 'token-for-operators');
  writeFileSync(tokenFile, TOKEN, { mode: 0o600 });
  const said: string[] = [];
  const io = { out: (text: string) => void said.push(text), err: () => undefined };
  const run = (...argv: string[]) =>
    runAdmin([...argv, '--url', lab.url, '--token-file', tokenFile, '--reason', 'pulled its power'], io);
  await t.rejects(run('instance', 'restart', 'web-1'), { code: 'ILLEGAL_STATE', message: /not fenced/ });
  await run('node', 'fence', 'old');
  await run('instance', 'restart', 'web-1', '--node', 'other', '--by', 'ann');
  t.match(
    said.join(''),
    /^Node old is lost, and fenced\.\nInstance web-1 is being restarted on other: operation /,
  );
  const { entries } = (await lab.get('/v1/operator-log')).body;
  t.match(entries[1], { action: 'instance.restart-elsewhere', by: 'ann', reason: 'pulled its power' });
});
