/**
 * Policies on real guests: QEMU is killed, a kernel panics, and nobody asks for anything.
 */
import t from 'tap';
import { DEFAULT_POLICIES } from '../../src/model/policy.ts';
import { cannotRun, prepare, qemuPid, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A guest under TCG on a loaded machine takes its time, ms. */
const TEST_MS = 300_000;
const node = new RealNode();

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
});
t.teardown(() => (skip ? undefined : node.remove()));

const show = async (name: string) => (await node.call('instance.show', { id: name })).instance;
const events = async (type: string) =>
  (await node.call('event.list', { after: 0 })).events.filter((event) => event.type === type);
const starts = async () =>
  (await node.call('operation.list', {})).operations.filter(({ kind }) => kind === 'instance.start');

t.test(
  'a guest whose QEMU is killed is started again by its policy',
  { skip, timeout: TEST_MS },
  async (t) => {
    t.match(await node.run('instance.create', { spec: spec('killed') }), { state: 'succeeded' });
    const pid = qemuPid('berth-killed');
    process.kill(pid, 'SIGKILL');
    await until('it was started again', TEST_MS, async () => {
      const { power, restarts } = await show('killed');
      const hasEnded = (await starts()).every(({ endedAt }) => endedAt !== null);
      return power.state === 'running' && restarts?.count === 1 && hasEnded ? true : null;
    });
    t.not(qemuPid('berth-killed'), pid, 'with another process');
    t.match(await starts(), [{ askedBy: 'crash-policy', target: { name: 'killed' }, state: 'succeeded' }]);
    t.match(await node.berth('operation', 'list'), {
      code: 0,
      stdout: /instance\.start +killed +crash-policy/,
    });
    t.match(await node.berth('instance', 'show', 'killed'), { stdout: /started 1 times by its policies/ });
  },
);

t.test('with a policy that only reports it stays down', { skip, timeout: TEST_MS }, async (t) => {
  t.match(await node.berth('instance', 'configure', 'killed', '--on-crash', 'report'), { code: 0 });
  t.equal((await show('killed')).power.state, 'running', 'its guest ran on');
  process.kill(qemuPid('berth-killed'), 'SIGKILL');
  await node.untilPower('killed', 'crashed');
  await node.end('SIGKILL');
  await node.start();
  t.match(await show('killed'), {
    power: { state: 'crashed' },
    desired: 'running',
    restarts: { nextAt: null },
  });
  t.equal((await starts()).length, 1, 'the next agent starts nothing, either');
});

t.test(
  'a kernel that panics at each boot is told, started again, and given up',
  { skip, timeout: TEST_MS },
  async (t) => {
    const policies = { ...DEFAULT_POLICIES, onCrash: { action: 'restart' as const, limit: 1 } };
    const userData = '#!/bin/sh\necho 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\n';
    t.match(await node.run('instance.create', { spec: spec('panics', { policies, userData }) }), {
      state: 'succeeded',
    });
    await until('it was given up', TEST_MS, async () => (await show('panics')).restarts?.givenUp ?? null);
    t.match(await show('panics'), { power: { state: 'crashed' }, restarts: { count: 1 } });
    t.equal((await events('instance.panicked')).length, 2, 'each panic once');
    t.match(await events('instance.restarts-exhausted'), [{ target: { name: 'panics' } }]);
    t.match(await node.berth('instance', 'show', 'panics'), {
      stdout: /given up: started 1 times within an hour/,
    });
  },
);
