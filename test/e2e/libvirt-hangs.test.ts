/**
 * libvirtd is stopped by SIGSTOP for half a minute under a whole node: a private one, so that no other test hangs with
 * it. How fast the node answers meanwhile is bench/hang.ts.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Instance } from '../../src/model/instance.ts';
import { FakeScheduler } from '../agent/link/support/fake-scheduler.ts';
import { takeTime } from '../drivers/libvirt/lab.ts';
import { PrivateDaemon } from '../drivers/libvirt/private-daemon.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** How long libvirtd stands still, ms. */
const FROZEN_MS = 30_000;
/** How long a change may take to be seen, ms. */
const PATIENCE_MS = 60_000;
const TOKEN = 'a-token-of-the-test';
const GUESTS = ['hang-a', 'hang-b'];

takeTime(t);

/** A node on a libvirtd of its own, linked to a scheduler, with two guests that run. */
async function openNode(t: Test) {
  const daemon = await PrivateDaemon.open(t);
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  t.teardown(() => scheduler.close());
  const folder = mkdtempSync(join(tmpdir(), 'berth-hang-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, TOKEN);
  const config = `[hypervisor]\nuri = "${daemon.uri}"\n[scheduler]\nurl = "${scheduler.url}"\ntokenFile = "${tokenFile}"`;
  const node = new RealNode({ config });
  t.teardown(() => node.remove());
  await node.start();
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  await prepare(node);
  for (const name of GUESTS) {
    t.match(await node.run('instance.create', { spec: spec(name, { nics: [] }) }), { state: 'succeeded' });
  }
  t.teardown(() => daemon.thaw());
  return { daemon, node, peer };
}

async function guestsOf(node: RealNode): Promise<Instance[]> {
  const { instances } = await node.call('instance.list', {});
  return instances.filter(({ name }) => GUESTS.includes(name));
}

function qemuPids(instances: Instance[]): number[] {
  const pattern = (id: string) => `^/usr/bin/qemu-system-x86_64 .*-uuid ${id}`;
  return instances.map(({ id }) => Number(execFileSync('pgrep', ['-f', pattern(id)], { encoding: 'utf8' })));
}

/** All that is told of instances, but since when and why they are as they are, and what their guests say. */
function withoutTimes(instances: Instance[]) {
  return instances.map(({ power, guest: _guest, ...rest }) => ({ ...rest, power: power.state }));
}

/** Asks again and again until so much time is over; the number of answers. */
async function askFor(node: RealNode, untilMs: number): Promise<number> {
  let answers = 0;
  await until('the time is over', PATIENCE_MS, async () => {
    for (const method of ['node.status', 'instance.list', 'operation.list', 'inventory.get'] as const) {
      await node.call(method, {});
      answers++;
    }
    return performance.now() > untilMs ? true : null;
  });
  return answers;
}

t.test(
  'a libvirtd that stands still makes states unknown, and costs no answer and no guest',
  { skip },
  async (t) => {
    const { daemon, node, peer } = await openNode(t);
    const before = await guestsOf(node);
    const pids = qemuPids(before);
    const heartbeats = peer.heartbeats.length;
    const frozenAt = performance.now();
    daemon.freeze();

    await node.untilPower('hang-a', 'unknown');
    const { instance } = await node.call('instance.show', { id: 'hang-a' });
    t.match(instance, { lifecycle: 'ready', power: { state: 'unknown', since: String, reason: /./ } });
    const { hypervisor, problems } = await node.call('node.status', {});
    t.match(problems, [
      { object: { kind: 'hypervisor' }, since: hypervisor.since, reason: hypervisor.reason },
    ]);
    await t.rejects(node.call('instance.stop', { id: 'hang-a', mode: 'forced' }), { code: 'UNAVAILABLE' });
    const { operation } = await node.call('instance.create', { spec: spec('hang-c', { nics: [] }) });
    await until('the create waits for its next try', PATIENCE_MS, async () => {
      const { operation: now } = await node.call('operation.get', { id: operation.id });
      return now.retry;
    });
    const answers = await askFor(node, frozenAt + FROZEN_MS);
    t.ok(answers > 100, `${answers} answers while libvirtd stood still`);
    const beats = peer.heartbeats.length - heartbeats;
    t.ok(beats > FROZEN_MS / 2_000, `${beats} heartbeats, one a second, in ${FROZEN_MS / 1_000} s`);
    t.same(qemuPids(before), pids, 'every guest runs on');

    daemon.thaw();
    t.match(await node.ended(operation), { state: 'succeeded' }, 'what has waited is done');
    for (const name of GUESTS) await node.untilPower(name, 'running');
    t.same((await node.call('node.status', {})).problems, [], 'nothing is left of it');
    const after = await guestsOf(node);
    t.same(withoutTimes(after), withoutTimes(before), 'all is as it was');
    t.same(qemuPids(after), pids, 'with the same processes');
  },
);
