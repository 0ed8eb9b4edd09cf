/**
 * A link from a simulated agent to a fake scheduler. Its clock stands still unless a test lets time pass, while
 * the sockets are real: so a test waits for what comes over a socket, and passes time for what a timer does.
 */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { FileCredentials } from '../../../../src/agent/link/credentials.ts';
import { Link } from '../../../../src/agent/link/link.ts';
import type { Role } from '../../../../src/model/methods.ts';
import { Ownership } from '../../../../src/agent/policies/ownership.ts';
import { eventually } from '../../../scheduler/support/eventually.ts';
import { readyAgent, type SimAgent } from '../../support/sim-agent.ts';
import { FakeScheduler, type FakeSchedulerOptions } from './fake-scheduler.ts';

export const TOKEN = 'a-token-of-the-test';

export interface Linked {
  sim: SimAgent;
  scheduler: FakeScheduler;
  link: Link;
  tokenFile: string;
}

export interface LinkedOptions {
  mute?: boolean;
  refuse?: FakeSchedulerOptions['refuse'];
  compress?: boolean;
  random?: () => number;
  /** What the agent holds in its hand. @default the scheduler's own */
  token?: string | null;
  /** Instead of the scheduler's. */
  url?: string;
  /** @default none */
  alternateUrls?: string[];
  /** What the scheduler may do. @default 'operate' */
  role?: Role;
}

export async function linked(t: Test, options: LinkedOptions = {}): Promise<Linked> {
  const sim = await readyAgent(t);
  const scheduler = await FakeScheduler.listen({
    token: TOKEN,
    mute: options.mute ?? false,
    compress: options.compress ?? false,
    ...(options.refuse === undefined ? {} : { refuse: options.refuse }),
  });
  const tokenFile = join(sim.folder, 'token');
  if (options.token !== null) writeFileSync(tokenFile, `${options.token ?? TOKEN}\n`);
  const link = linkOf(sim, {
    url: options.url ?? scheduler.url,
    alternateUrls: options.alternateUrls ?? [],
    tokenFile,
    random: options.random ?? (() => 1),
    ...(options.role === undefined ? {} : { role: options.role }),
  });
  t.teardown(async () => {
    link.close();
    await scheduler.close();
  });
  link.start();
  return { sim, scheduler, link, tokenFile };
}

export function linkOf(
  sim: SimAgent,
  parts: { url: string; alternateUrls?: string[]; tokenFile: string; random: () => number; role?: Role },
): Link {
  const { store, inventories, clock, log } = sim.agent.services;
  const nodeId = store.meta.get('node_id') as string;
  const ownership = new Ownership({ store, clock, log, limitMs: 300_000 });
  const { dispatcher } = sim.agent;
  const role = parts.role ?? 'operate';
  const credentials = new FileCredentials(parts);
  return new Link({
    random: parts.random,
    newId: randomUUID,
    alternateUrls: parts.alternateUrls ?? [],
    credentials,
    role,
    store,
    inventories,
    clock,
    log,
    nodeId,
    dispatcher,
    ownership,
  });
}

/** Lets time pass in small steps, with turns of the event loop for the sockets between them. */
export async function pass(sim: SimAgent, ms: number): Promise<void> {
  const STEP_MS = 250;
  for (let left = ms; left > 0; left -= STEP_MS) {
    await sim.clock.advance(Math.min(STEP_MS, left));
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets the link come to `state`; no time passes. */
export async function healthIs(link: Link, state: 'ok' | 'unavailable', reason = /./): Promise<void> {
  await eventually(() => link.health.state === state && reason.test(link.health.reason));
}

/** Writes `count` events. */
export function writeEvents(sim: SimAgent, count: number): void {
  const { store } = sim.agent.services;
  for (let left = count; left > 0; left -= 1_000) {
    store.db.transaction(() => {
      for (let i = 0; i < Math.min(left, 1_000); i++) store.events.append('inventory.changed', null, {});
    });
  }
}
