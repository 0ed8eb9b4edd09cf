/** A real agent on a simulated host in this process, on real time, linked to a scheduler. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Agent } from '../../../src/agent/agent.ts';
import { parseConfig } from '../../../src/agent/config/load.ts';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { createSimHost, SimWorld } from '../../../src/drivers/sim/index.ts';
import { eventually } from './eventually.ts';
import { type Answer, type Lab, TOKEN } from './lab.ts';

const IMAGE = 'https://images.example/debian.qcow2';
const GIB = 1024 ** 3;
const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

export interface Host {
  hostname: string;
  agent: Agent;
  /** State of the agent. */
  folder: string;
  /** Stops the agent and starts the next one on the same host and state. @param meanwhile What happens in between. */
  restart(meanwhile?: () => void | Promise<void>): Promise<void>;
}

export async function startHost(t: Test, lab: Lab): Promise<Host> {
  const folder = mkdtempSync(join(tmpdir(), 'gsch-'));
  writeFileSync(join(folder, 'token'), TOKEN);
  const world = new SimWorld({ clock: systemClock });
  world.sources.set(IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: GIB });
  const makeAgent = (): Agent => {
    const config = parseConfig(
      `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"\n[socket]\npath = "${folder}/berth.sock"\n` +
        `[scheduler]\nurl = "${lab.url.replace('http', 'ws')}"\ntokenFile = "${folder}/token"\n`,
      'test.toml',
    );
    const { hypervisor, pool, pools, network, host, keys, objects } = createSimHost({ world });
    const drivers = { hypervisor, pool, pools, network, host, keys, objects };
    return new Agent({ config, drivers, clock: systemClock, log: SILENT });
  };
  const running: Host = {
    hostname: '',
    agent: makeAgent(),
    folder,
    restart: async (meanwhile = () => undefined) => {
      await running.agent.stop();
      await meanwhile();
      running.agent = makeAgent();
      await running.agent.start();
    },
  };
  await running.agent.start();
  t.teardown(async () => {
    await running.agent.stop();
    rmSync(folder, { recursive: true });
  });
  const node = await eventually(async () => (await lab.get('/v1/nodes')).body.nodes[0]);
  running.hostname = node.hostname;
  return running;
}

/** Follows the operation of an answer to its end. */
export async function ended(lab: Lab, answer: Answer): Promise<{ state: string; error: unknown }> {
  const operation = answer.body.operation ?? answer.body.result?.operation;
  if (!operation) throw new Error(`no operation in ${JSON.stringify(answer.body)}`);
  return (await lab.get(`/v1/operations/${operation.id}?wait=30`)).body.operation;
}

export async function prepare(t: Test, lab: Lab, host: Host): Promise<void> {
  const path = `/v1/nodes/${host.hostname}/call`;
  const image = { method: 'image.import', params: { name: 'debian', source: IMAGE } };
  t.match(await ended(lab, await lab.post(path, image)), { state: 'succeeded' });
  const network = { method: 'network.create', params: { spec: { name: 'lan', cidr: '10.80.0.0/24' } } };
  t.match(await ended(lab, await lab.post(path, network)), { state: 'succeeded' });
}
