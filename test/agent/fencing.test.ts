import t from 'tap';
import { readyAgent, spec } from './support/sim-agent.ts';

t.test('a repeat under the same key answers with the first operation, also after a restart', async (t) => {
  const sim = await readyAgent(t);
  const first = await sim.run('instance.create', { spec: spec(), key: 'k1' });
  t.equal((await sim.call('instance.create', { spec: spec(), key: 'k1' })).operation.id, first.id);
  await sim.crash();
  await sim.restart();
  t.equal((await sim.call('instance.create', { spec: spec(), key: 'k1' })).operation.id, first.id);
  t.equal((await sim.call('instance.list')).instances.length, 1);
});

t.test('a key that was used for something else is refused', async (t) => {
  const sim = await readyAgent(t);
  const first = await sim.run('instance.create', { spec: spec(), key: 'k1' });
  await t.rejects(sim.call('instance.create', { spec: spec('other'), key: 'k1' }), {
    code: 'KEY_REUSED',
    details: { operation: first.id },
  });
});

t.test('a command for an older generation bounces with the current one', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec() });
  await sim.run('instance.stop', { id: 'web', mode: 'forced', generation: 1 });
  await t.rejects(sim.call('instance.start', { id: 'web', generation: 1 }), {
    code: 'STALE',
    details: { generation: 2 },
  });
  t.equal((await sim.run('instance.start', { id: 'web', generation: 2 })).state, 'succeeded');
});

t.test('a command of an older scheduler bounces, also after a restart', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec(), epoch: 7 });
  await sim.crash();
  await sim.restart();
  await t.rejects(sim.call('instance.stop', { id: 'web', epoch: 6 }), {
    code: 'STALE',
    details: { epoch: 7 },
  });
});

t.test('a method above the role, and one that does not exist, are refused', async (t) => {
  const sim = await readyAgent(t);
  const call = (name: string, params: unknown) =>
    sim.agent.dispatcher.call(name, params, { role: 'observe' });
  await t.rejects(call('instance.create', { spec: spec() }), {
    code: 'PERMISSION_DENIED',
    message: /needs the role operate/,
  });
  await t.rejects(call('instance.lst', {}), {
    code: 'UNSUPPORTED',
    message: /did you mean instance\.list\?/,
  });
  await t.rejects(call('constructor', {}), { code: 'UNSUPPORTED' });
  await t.rejects(call('instance.show', { id: '../../etc' }), { code: 'INVALID_ARGUMENT' });
});

t.test('a scheduler may have an image fetched, but not a file of the host read', async (t) => {
  const sim = await readyAgent(t);
  const call = (source: string) =>
    sim.agent.dispatcher.call('image.import', { name: 'secrets', source }, { role: 'operate' });
  await t.rejects(call('/dev/vda'), { code: 'PERMISSION_DENIED', message: /needs the role admin/ });
  t.match(await call('http://127.0.0.1:1/image.qcow2'), { operation: { kind: 'image.import' } });
});
