/**
 * The fleet: its workers as one. Each order goes to all of them, and their answers come together.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError } from '../src/model/errors.ts';
import type { GatewayAddress } from './agent.ts';
import { type EventCount, sumOfCounts } from './events.ts';
import type { OrderAnswer, OrderName, OrderParams, OrderResult, Verdict } from './orders.ts';

const WORKER = join(import.meta.dirname, 'worker.ts');
/** Between two looks at whether all agents are so, ms. */
const LOOK_MS = 250;
/** Milliseconds that workers have to stop; then they are killed. */
const STOP_LIMIT_MS = 15_000;

export interface FleetParts {
  gateway: GatewayAddress;
  agents: number;
  full: number;
  processes: number;
  seed: number;
  folder: string;
}

class Worker {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #lastId = 0;

  constructor() {
    this.#process = fork(WORKER, { execArgv: ['--conditions=berth-source'] });
    this.#process.on('message', (answer: OrderAnswer) => this.#take(answer));
    this.#process.on('exit', () => this.#failAll());
  }

  order<O extends OrderName>(name: O, params: OrderParams<O>): Promise<OrderResult<O>> {
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    if (this.#process.connected) this.#process.send({ id, name, params });
    else this.#failAll();
    return promise as Promise<OrderResult<O>>;
  }

  /** Within a bound, whatever it does. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_LIMIT_MS);
    this.order('stop', {}).catch(() => undefined); // one that is gone by now has stopped
    await exited;
    clearTimeout(timer);
  }

  #take(answer: OrderAnswer): void {
    const waiter = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('error' in answer) waiter?.reject(AgentError.fromBody(answer.error));
    else waiter?.resolve(answer.result);
  }

  #failAll(): void {
    for (const { reject } of this.#waiting.values()) {
      reject(new AgentError('UNAVAILABLE', 'A process of agents has ended'));
    }
    this.#waiting.clear();
  }
}

export class Fleet {
  readonly #parts: FleetParts;
  readonly #workers: Worker[];

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#workers = Array.from({ length: parts.processes }, () => new Worker());
  }

  get size(): number {
    return this.#parts.agents;
  }

  /** Makes all agents, and resolves when they are linked. */
  async launch(limitMs: number): Promise<void> {
    const { agents, full, processes, ...same } = this.#parts;
    let first = 0;
    const launches = this.#workers.map((worker, index) => {
      const count = shareOf(agents, processes, index);
      const launch = { ...same, first, count, full: shareOf(full, processes, index) };
      first += count;
      return worker.order('launch', launch);
    });
    await Promise.all(launches);
    await this.allLinked({ sinceMs: 0, limitMs });
  }

  stir(): Promise<unknown> {
    return this.#all('stir', {});
  }

  restart(): Promise<unknown> {
    return this.#all('restart', {});
  }

  /** @param count Of all agents. @returns How many there are behind slow lines now. */
  async slowDown(count: number): Promise<number> {
    const moved = await Promise.all(
      this.#workers.map((worker, index) =>
        worker.order('slowDown', { count: shareOf(count, this.#workers.length, index) }),
      ),
    );
    return sum(moved);
  }

  async redirectLast(url: string | null): Promise<void> {
    await this.#workers.at(-1)?.order('redirectLast', { url });
  }

  /** @throws {AgentError} DEADLINE_EXCEEDED: not all of them in time. */
  async allLinked({ sinceMs, limitMs }: { sinceMs: number; limitMs: number }): Promise<void> {
    const left = async () => this.size - sum(await this.#all('countLinked', { sinceMs }));
    await noneLeft(left, 'are not linked', limitMs);
  }

  /** Resolves when every event is acknowledged. @throws {AgentError} DEADLINE_EXCEEDED */
  async allAcknowledged(limitMs: number): Promise<void> {
    const left = async () => sum(await this.#all('countBehind', {}));
    await noneLeft(left, 'have events that are not acknowledged', limitMs);
  }

  /** Ids of some nodes that no slow line comes before. */
  async nodeIds(): Promise<string[]> {
    return (await this.#all('nodeIds', {})).flat();
  }

  async verify(): Promise<Verdict> {
    const verdicts = await this.#all('verify', {});
    const events: EventCount = sumOfCounts(verdicts.map((verdict) => verdict.events));
    return { events, instances: verdicts.flatMap(({ instances }) => instances) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  #all<O extends OrderName>(name: O, params: OrderParams<O>): Promise<OrderResult<O>[]> {
    return Promise.all(this.#workers.map((worker) => worker.order(name, params)));
  }
}

/** Agents that the process of this index has, so that all have one more or less. */
export function shareOf(all: number, processes: number, index: number): number {
  return Math.floor(all / processes) + (index < all % processes ? 1 : 0);
}

async function noneLeft(left: () => Promise<number>, words: string, limitMs: number): Promise<void> {
  const giveUpAt = performance.now() + limitMs;
  for (let count = await left(); count > 0; count = await left()) {
    if (performance.now() > giveUpAt) {
      throw new AgentError('DEADLINE_EXCEEDED', `${count} agents ${words} after ${limitMs / 1000} s`);
    }
    await sleep(LOOK_MS);
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
