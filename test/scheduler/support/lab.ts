/**
 * A scheduler on a free port with a folder of its own, and what tests do with it. Cleans up after the test.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import { type Clock, systemClock } from '../../../src/scheduler/clock.ts';
import { type Scheduler, type SchedulerOptions, startScheduler } from '../../../src/scheduler/scheduler.ts';
import { FakeAgent, type FakeAgentOptions } from './fake-agent.ts';

export const TOKEN = 'a-token-for-tests-only';

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  body: any;
}

export class Lab {
  readonly stateDir = mkdtempSync(join(tmpdir(), 'gsch-'));
  readonly #clock: Clock;
  readonly #options: Partial<SchedulerOptions>;
  readonly #agents: FakeAgent[] = [];
  scheduler!: Scheduler;

  constructor(clock: Clock, options: Partial<SchedulerOptions> = {}) {
    this.#clock = clock;
    this.#options = options;
  }

  get url(): string {
    return `http://127.0.0.1:${this.scheduler.address.port}`;
  }

  async start(): Promise<void> {
    this.scheduler = await startScheduler(
      {
        listen: { host: '127.0.0.1', port: 0 },
        stateDir: this.stateDir,
        token: TOKEN,
        heartbeatSeconds: 5,
        ...this.#options,
      },
      { clock: this.#clock, logger: pino({ level: process.env['LAB_LOG'] ?? 'silent' }) },
    );
  }

  /** Ends the scheduler and starts one on the same database; agents have to connect anew. */
  async restart(): Promise<void> {
    await this.scheduler.close();
    await this.start();
    for (const agent of this.#agents) agent.url = this.url;
  }

  agent(options: Partial<FakeAgentOptions> = {}): FakeAgent {
    const agent = new FakeAgent({ url: this.url, token: TOKEN, ...options });
    this.#agents.push(agent);
    return agent;
  }

  /** A connected agent. */
  async node(options: Partial<FakeAgentOptions> = {}): Promise<FakeAgent> {
    const agent = this.agent(options);
    await agent.connect();
    return agent;
  }

  get(path: string): Promise<Answer> {
    return this.ask('GET', path);
  }

  post(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<Answer> {
    return this.ask('POST', path, JSON.stringify(body), headers);
  }

  async ask(
    method: string,
    path: string,
    body?: string,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${TOKEN}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.status, headers: response.headers, body: await response.json() };
  }

  async close(): Promise<void> {
    for (const agent of this.#agents) await agent.drop();
    await this.scheduler.close();
    rmSync(this.stateDir, { recursive: true });
  }
}

/** A started lab, closed when the test ends. */
export async function startLab(
  t: Test,
  clock: Clock = systemClock,
  options: Partial<SchedulerOptions> = {},
): Promise<Lab> {
  const lab = new Lab(clock, options);
  await lab.start();
  t.teardown(() => lab.close());
  return lab;
}
