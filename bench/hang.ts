/**
 * hang: how long the local socket and the link take to answer while libvirtd stands still for half a minute.
 *
 * A private libvirtd is stopped by SIGSTOP, while a guest runs and an operation waits for it. What counts is the
 * slowest answer of all; those of the half minute before tell what else the machine does.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeScheduler, type Peer } from '../test/agent/link/support/fake-scheduler.ts';
import { PrivateDaemon } from '../test/drivers/libvirt/private-daemon.ts';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf, timed } from './harness.ts';

/** How long it is asked while libvirtd answers, and then while it stands still, ms. */
const PHASE_MS = 30_000;
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
  const before = await ask(node, peer);
  daemon.freeze();
  stack.defer(() => daemon.thaw());
  const { operation } = await node.call('instance.create', { spec: spec('waits', { nics: [] }) });
  const frozen = await ask(node, peer);
  daemon.thaw();
  await node.ended(operation);
  return casesOf(before, frozen);
}

interface Answers {
  bySocket: number[];
  byLink: number[];
  heartbeats: number;
}

/** Asks by both ways for `PHASE_MS`. */
async function ask(node: RealNode, peer: Peer): Promise<Answers> {
  const answers: Answers = { bySocket: [], byLink: [], heartbeats: -peer.heartbeats.length };
  const endMs = performance.now() + PHASE_MS;
  while (performance.now() < endMs) {
    answers.bySocket.push(await timed(() => node.call('node.status', {})));
    answers.byLink.push(await timed(() => peer.call('node.status')));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  answers.heartbeats += peer.heartbeats.length;
  return answers;
}

function casesOf(before: Answers, frozen: Answers): Case[] {
  const ways = [
    ['socket', frozen.bySocket, before.bySocket],
    ['link', frozen.byLink, before.byLink],
  ] as const;
  const missed = Math.max(0, PHASE_MS / 1_000 - frozen.heartbeats);
  return [
    ...ways.flatMap(([way, ours, values]) => [
      caseOf({ case: `slowest answer on the ${way}`, unit: 'ms', ours: [Math.max(...ours)], goal: GOAL_MS }),
      caseOf({
        case: `answers on the ${way}`,
        unit: 'ms',
        ours: [...ours],
        peer: { name: 'while libvirtd answers', values: [...values] },
        goal: null,
      }),
      caseOf({
        case: `slowest answer on the ${way}`,
        unit: 'ms',
        ours: [Math.max(...ours)],
        peer: { name: 'while libvirtd answers', values: [Math.max(...values)] },
        goal: null,
      }),
    ]),
    caseOf({ case: 'heartbeats missed', unit: 'heartbeats', ours: [missed], goal: 1 }),
  ];
}
