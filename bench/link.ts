/**
 * link: bytes on the wire, round trips of commands over TLS, and what a link costs a gateway.
 *
 * A real agent on a simulated host speaks to a gateway in this process, first without TLS so that frames can be counted,
 * then over TLS with idle agents connected besides, in a process of their own: BERTH_BENCH_LINKS, 200 by default.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Agent } from '../src/agent/agent.ts';
import { parseConfig } from '../src/agent/config/load.ts';
import { systemClock } from '../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../src/drivers/sim/index.ts';
import type { AgentSession } from '../src/scheduler/gateway/agent-session.ts';
import { eventually } from '../test/scheduler/support/eventually.ts';
import { type Case, caseOf, timed } from './harness.ts';
import { BenchGateway, TOKEN } from './link-gateway.ts';

/** Bytes of a heartbeat in which nothing has changed, with its frame. */
const HEARTBEAT_GOAL_BYTES = 120;
/** 99 of 100 commands are answered in so many ms. */
const ROUND_TRIP_GOAL_MS = 10;
const ROUND_TRIPS = 500;
const WARM_UP = 20;
const IDLE_LINKS = Number(process.env['BERTH_BENCH_LINKS'] ?? 200);
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

export async function linkBench(): Promise<Case[]> {
  return [...(await bytesCases()), ...(await loadedCases())];
}

async function bytesCases(): Promise<Case[]> {
  await using stack = new AsyncDisposableStack();
  const gateway = await BenchGateway.listen('plain');
  stack.defer(() => gateway.close());
  const agent = await startAgent(gateway, stack);
  const session = await gateway.session(nodeIdOf(agent));
  await eventually(() => gateway.frames('heartbeat').length > 5);
  const [hello] = gateway.frames('hello');
  const unchanged = gateway
    .frames('heartbeat')
    .filter(({ text }) => /"params":\{"revision":"[^"]*"\}/.test(text));
  await ask(session, 'volume.create', { name: 'delta', sizeGib: 1 });
  const delta = await eventually(() =>
    gateway.frames('heartbeat').find(({ text }) => text.includes('delta')),
  );
  const bytes = (name: string, values: number[], goal: number | null = null) =>
    caseOf({ case: name, unit: 'bytes', ours: values, goal });
  return [
    bytes(
      'unchanged heartbeat, framed',
      unchanged.map(({ frameBytes }) => frameBytes),
      HEARTBEAT_GOAL_BYTES,
    ),
    bytes('hello, framed and compressed', [hello?.frameBytes ?? 0]),
    bytes('hello, as text', [Buffer.byteLength(hello?.text ?? '')]),
    bytes('heartbeat with a change of the inventory, framed', [delta.frameBytes]),
    bytes('the same inventory whole, as text', [
      JSON.stringify(await ask(session, 'inventory.get', {})).length,
    ]),
  ];
}

async function loadedCases(): Promise<Case[]> {
  await using stack = new AsyncDisposableStack();
  const gateway = await BenchGateway.listen('tls');
  stack.defer(() => gateway.close());
  const before = memory();
  await startIdle(gateway, stack);
  await eventually(() => gateway.introduced >= IDLE_LINKS);
  const after = memory();
  const agent = await startAgent(gateway, stack);
  const session = await gateway.session(nodeIdOf(agent));
  const reads: number[] = [];
  const commands: number[] = [];
  const inProcess: number[] = [];
  for (let i = -WARM_UP; i < ROUND_TRIPS; i++) {
    const read = await timed(() => ask(session, 'instance.list', {}));
    const command = await timedCommand((method, params) => ask(session, method, params), `l${i + WARM_UP}`);
    const direct = await timedCommand(
      (method, params) => agent.dispatcher.call(method, params, { role: 'operate' }),
      `d${i + WARM_UP}`,
    );
    if (i < 0) continue;
    reads.push(read);
    commands.push(command);
    inProcess.push(direct);
  }
  const beside = `TLS, ${IDLE_LINKS} idle links beside`;
  const kib = (name: string, bytes: number) =>
    caseOf({ case: name, unit: 'KiB', ours: [bytes / IDLE_LINKS / 1024], goal: null });
  return [
    caseOf({
      case: `round trip of a read (${beside})`,
      unit: 'ms',
      ours: reads,
      goal: ROUND_TRIP_GOAL_MS,
      goalOf: 'p99',
    }),
    caseOf({
      case: `round trip of a command that is journaled (${beside})`,
      unit: 'ms',
      ours: commands,
      peer: { name: 'the same without a link', values: inProcess },
      goal: ROUND_TRIP_GOAL_MS,
      goalOf: 'p99',
    }),
    kib('memory of a link at the gateway, resident, with TLS', after.rss - before.rss),
    kib('memory of a link at the gateway, heap', after.heap - before.heap),
  ];
}

/** From the request to the answer; what the operation does afterwards is waited for, and not measured. */
async function timedCommand(
  call: (method: string, params: object) => Promise<unknown>,
  name: string,
): Promise<number> {
  let answer: unknown;
  const ms = await timed(async () => {
    answer = await call('volume.create', { name, sizeGib: 1, key: name });
  });
  const { operation } = answer as { operation: { id: string } };
  await call('operation.get', { id: operation.id, waitSeconds: 10 });
  return ms;
}

async function startAgent(gateway: BenchGateway, stack: AsyncDisposableStack): Promise<Agent> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-bench-'));
  stack.defer(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'token'), TOKEN);
  const ca = gateway.authorityPem === null ? '' : `caFile = "${join(folder, 'ca.pem')}"\n`;
  if (gateway.authorityPem !== null) writeFileSync(join(folder, 'ca.pem'), gateway.authorityPem);
  const config = parseConfig(
    `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
      `[capacity]\ndiskRatio = 64\n[scheduler]\nurl = "${gateway.url}"\ntokenFile = "${folder}/token"\n${ca}`,
    'bench.toml',
  );
  const drivers = createSimHost({ world: new SimWorld({ clock: systemClock }) });
  const agent = new Agent({ config, drivers, clock: systemClock, log: SILENT });
  await agent.start();
  stack.defer(() => agent.stop());
  return agent;
}

function nodeIdOf(agent: Agent): string {
  return agent.services.store.meta.get('node_id') as string;
}

async function startIdle(gateway: BenchGateway, stack: AsyncDisposableStack): Promise<void> {
  const script = join(import.meta.dirname, 'link-clients.ts');
  const child = spawn(
    process.execPath,
    ['--conditions=berth-source', script, gateway.url, String(IDLE_LINKS), TOKEN],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  stack.defer(async () => {
    const ended = once(child, 'exit');
    child.kill();
    await ended;
  });
}

async function ask(session: AgentSession, method: string, params: object): Promise<unknown> {
  const outcome = await session.request(method as 'node.status', { ...params }, { deadlineMs: 10_000 });
  if (outcome.kind === 'result') return outcome.result;
  throw new Error(`${method}: ${JSON.stringify(outcome)}`);
}

function memory(): { rss: number; heap: number } {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}
