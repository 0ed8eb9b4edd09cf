/**
 * link: bytes on the wire, round trips of commands over TLS, and what a link costs a gateway.
 *
 * A real agent on a simulated host speaks to a gateway in this process, first without TLS so that frames can be counted,
 * then over TLS with idle agents connected besides, in a process of their own: BERTH_BENCH_LINKS, 1,000 by default. There the
 * agent has a process of its own, too, as on a host.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { AgentSession } from '../src/scheduler/gateway/agent-session.ts';
import { eventually } from '../test/scheduler/support/eventually.ts';
import { type Case, caseOf, timed } from './harness.ts';
import { BenchGateway, TOKEN } from './link-gateway.ts';
import { nodeIdOf, startAgent, type Target, timedCommand } from './link-node.ts';

/** Bytes of a heartbeat in which nothing has changed, with its frame. */
const HEARTBEAT_GOAL_BYTES = 120;
/** 99 of 100 commands are answered in so many ms. */
const ROUND_TRIP_GOAL_MS = 10;
const ROUND_TRIPS = 500;
const WARM_UP = 20;
const IDLE_LINKS = Number(process.env['BERTH_BENCH_LINKS'] ?? 1_000);

export async function linkBench(): Promise<Case[]> {
  return [...(await bytesCases()), ...(await loadedCases())];
}

async function bytesCases(): Promise<Case[]> {
  await using stack = new AsyncDisposableStack();
  const gateway = await BenchGateway.listen('plain');
  stack.defer(() => gateway.close());
  const agent = await startAgent(gateway.target, stack);
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
  const agent = stack.use(new FarAgent(gateway.target));
  const session = await gateway.session(await agent.said());
  const reads: number[] = [];
  const commands: number[] = [];
  const inProcess: number[] = [];
  for (let i = -WARM_UP; i < ROUND_TRIPS; i++) {
    const read = await timed(() => ask(session, 'instance.list', {}));
    const command = await timedCommand((method, params) => ask(session, method, params), `l${i + WARM_UP}`);
    const direct = await agent.timedCommand(`d${i + WARM_UP}`);
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

/** The same agent, elsewhere. */
class FarAgent {
  readonly #child: ChildProcess;

  constructor(target: Target) {
    const script = join(import.meta.dirname, 'link-agent.ts');
    this.#child = fork(script, { execArgv: ['--conditions=berth-source'] });
    this.#child.send(target);
  }

  /** Its node's id; later, of a command that it gives itself, the ms. */
  async said<T>(): Promise<T> {
    return (await once(this.#child, 'message'))[0] as T;
  }

  async timedCommand(name: string): Promise<number> {
    this.#child.send(name);
    return this.said();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.disconnect();
    await ended;
  }
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
