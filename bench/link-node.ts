/** The agent of the link benchmark, on a simulated host, and what is measured of it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent } from '../src/agent/agent.ts';
import { parseConfig } from '../src/agent/config/load.ts';
import { systemClock } from '../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../src/drivers/sim/index.ts';
import { timed } from './harness.ts';

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Where it connects to. */
export interface Target {
  url: string;
  token: string;
  /** Of the gateway's authority; null without TLS. */
  authorityPem: string | null;
}

export async function startAgent(
  { url, token, authorityPem }: Target,
  stack: AsyncDisposableStack,
): Promise<Agent> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-bench-'));
  stack.defer(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'token'), token);
  const ca = authorityPem === null ? '' : `caFile = "${join(folder, 'ca.pem')}"\n`;
  if (authorityPem !== null) writeFileSync(join(folder, 'ca.pem'), authorityPem);
  const config = parseConfig(
    `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
      `[capacity]\ndiskRatio = 64\n[scheduler]\nurl = "${url}"\ntokenFile = "${folder}/token"\n${ca}`,
    'bench.toml',
  );
  const drivers = createSimHost({ world: new SimWorld({ clock: systemClock }) });
  const agent = new Agent({ config, drivers, clock: systemClock, log: SILENT });
  await agent.start();
  stack.defer(() => agent.stop());
  return agent;
}

export function nodeIdOf(agent: Agent): string {
  return agent.services.store.meta.get('node_id') as string;
}

/** From the request to the answer, ms; what the operation does afterwards is waited for, and not measured. */
export async function timedCommand(
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
