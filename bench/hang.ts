/**
 * hang: how long the local socket and the link take to answer while libvirtd stands still for half a minute.
 *
 * A private libvirtd is stopped by SIGSTOP, while a guest runs and an operation waits for it. What counts is the
 * slowest answer of all.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeScheduler, type Peer } from '../test/agent/link/support/fake-scheduler.ts';
import { PrivateDaemon } from '../test/drivers/libvirt/private-daemon.ts';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf, timed } from './harness.ts';

const FROZEN_MS = 30_000;
/** Pause between two questions, ms. */
const PAUSE_MS = 50;
/** Of the issue, ms. */
const GOAL_MS = 50;
const TOKEN = 'a-token-of-the-benchmark';

export async function hangBench(): Promise<Case[]> {
  await using stack = new AsyncDisposableStack();
  const daemon = await PrivateDaemon.open({ teardown: (end) => stack.defer(async () => void (await end())) });
  const scheduler = await FakeScheduler.listen({ token: TOKEN });
  stack.defer(() => scheduler.close());
  const folder = mkdtempSync(join(tmpdir(), 'berth-bench-'));
  stack.defer(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'token'), TOKEN);
  const link = `[scheduler]\nurl = "${scheduler.url}"\ntokenFile = "${join(folder, 'token')}"`;
  const node = new RealNode({
    built: true,
    config: `[hypervisor]\nuri = "${daemon.uri}"\n${link}`,
  });
  stack.defer(() => node.remove());
  await node.start();
  const peer = await scheduler.peer(1);
  await peer.welcome({ heartbeatSeconds: 1 });
  await prepare(node);
  await node.run('instance.create', { spec: spec('hang', { nics: [] }) });
  daemon.freeze();
  stack.defer(() => daemon.thaw());
  const { operation } = await node.call('instance.create', { spec: spec('waits', { nics: [] }) });
  const cases = await measure(node, peer);
  daemon.thaw();
  await node.ended(operation);
  return cases;
}

async function measure(node: RealNode, peer: Peer): Promise<Case[]> {
  const bySocket: number[] = [];
  const byLink: number[] = [];
  const heartbeats = peer.heartbeats.length;
  const endMs = performance.now() + FROZEN_MS;
  while (performance.now() < endMs) {
    bySocket.push(await timed(() => node.call('node.status', {})));
    byLink.push(await timed(() => peer.call('node.status')));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  const beats = peer.heartbeats.length - heartbeats;
  const slowest = (values: number[]) => [Math.max(...values)];
  return [
    caseOf({
      case: `slowest of ${bySocket.length} answers on the socket`,
      unit: 'ms',
      ours: slowest(bySocket),
      goal: GOAL_MS,
    }),
    caseOf({ case: 'answers on the socket', unit: 'ms', ours: bySocket, goal: null }),
    caseOf({
      case: `slowest of ${byLink.length} answers on the link`,
      unit: 'ms',
      ours: slowest(byLink),
      goal: GOAL_MS,
    }),
    caseOf({
      case: `heartbeats missed of ${FROZEN_MS / 1_000}`,
      unit: 'heartbeats',
      ours: [Math.max(0, FROZEN_MS / 1_000 - beats)],
      goal: 1,
    }),
  ];
}
