/**
 * start: from the start of the process until it serves, with many instances there already.
 *
 * The instances are made beforehand by the agent's own code, in this process: on the sim by whole creates; on libvirt
 * by a create's own steps without the start of the guest, which is not what is measured.
 */
import { join } from 'node:path';
import { Agent } from '../src/agent/agent.ts';
import { loadConfig } from '../src/agent/config/load.ts';
import { makeDrivers } from '../src/agent/drivers.ts';
import { createInstance } from '../src/agent/instances/create.ts';
import type { SeededPlan } from '../src/agent/instances/seed.ts';
import type { ActContext } from '../src/agent/operations/kind.ts';
import { type Clock, systemClock } from '../src/drivers/contracts/clock.ts';
import type { Drivers } from '../src/drivers/contracts/drivers.ts';
import { HostExec } from '../src/drivers/host/exec.ts';
import { createSimHost, SimClock, SimWorld } from '../src/drivers/sim/index.ts';
import type { OperationMethod, Params } from '../src/model/methods.ts';
import type { Operation } from '../src/model/operation.ts';
import { IMAGE, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf, takeTurns, timed } from './harness.ts';
import { TICKS_PER_SECOND, ticksOf } from './rest.ts';

const ROUNDS = 10;
/** Of the issue: instances, and ms to serving. */
const SIM = { instances: 500, goalMs: 1_000 };
const REAL = { instances: 100, goalMs: 2_000 };
const NETWORK = { name: 'default', nat: false, dhcp: true, dnsServers: [] };
/** Room for all of them; it exists in memory alone. */
const SIM_CIDR = '10.88.0.0/22';
const SIM_IMAGE = '/images/bench.qcow2';
/** Steps of a create that make no definition. */
const RUNNING_STEPS = ['start', 'confirm'];
const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export async function startBench(): Promise<Case[]> {
  return [...(await simulated()), ...(await real())];
}

async function simulated(): Promise<Case[]> {
  const node = new RealNode({ built: true, config: '[hypervisor]\ndriver = "sim"' });
  try {
    await makeSimulated(node);
    const name = `${SIM.instances} simulated instances`;
    return await measured(node, { ...SIM, name, power: 'running' });
  } finally {
    await node.discard();
  }
}

async function makeSimulated(node: RealNode): Promise<void> {
  const clock = new SimClock();
  const world = new SimWorld({ clock, memoryMib: 2 ** 20, cpus: 512, poolBytes: 2 ** 50 });
  world.sources.set(SIM_IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 2 ** 20, virtualSizeBytes: 2 ** 30 });
  const passTime = () => clock.advance(100);
  await prepared(node, { drivers: createSimHost({ world }), clock, passTime }, async (agent) => {
    await base(agent, { cidr: SIM_CIDR, source: SIM_IMAGE, passTime });
    for (let i = 0; i < SIM.instances; i++) {
      await run(agent, passTime, 'instance.create', { spec: spec(`sim-${i}`, { memoryMib: 512 }) });
    }
  });
  world.save(join(node.folder, 'state', 'sim.json'));
}

async function real(): Promise<Case[]> {
  const node = new RealNode({ built: true });
  try {
    await makeReal(node);
    const name = `${REAL.instances} defined domains`;
    return await measured(node, { ...REAL, name, power: 'stopped' });
  } finally {
    await node.remove();
  }
}

async function makeReal(node: RealNode): Promise<void> {
  const config = loadConfig(join(node.folder, 'berthd.toml'));
  const drivers = await makeDrivers(config, { clock: systemClock, exec: new HostExec(), log: SILENT });
  const passTime = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
  await prepared(node, { drivers, clock: systemClock, passTime }, async (agent) => {
    await base(agent, { cidr: node.cidr, source: IMAGE, passTime });
    for (let i = 0; i < REAL.instances; i++) await define(agent, spec(`def-${i}`, { memoryMib: 64 }));
  });
  await drivers.hypervisor.close();
}

/** An agent of this process on the node's folder, for as long as `make` takes. */
async function prepared(
  node: RealNode,
  { drivers, clock, passTime }: { drivers: Drivers; clock: Clock; passTime: () => Promise<void> },
  make: (agent: Agent) => Promise<void>,
): Promise<void> {
  const { hypervisor, pool, pools, network, host, keys, objects } = drivers;
  const config = loadConfig(join(node.folder, 'berthd.toml'));
  const agent = new Agent({
    config,
    drivers: { hypervisor, pool, pools, network, host, keys, objects },
    clock,
    log: SILENT,
  });
  await whilePassing(passTime, agent.start());
  try {
    await make(agent);
  } finally {
    await whilePassing(passTime, agent.stop());
  }
}

/** An image `test` and a network `default`. */
async function base(
  agent: Agent,
  { cidr, source, passTime }: { cidr: string; source: string; passTime: () => Promise<void> },
): Promise<void> {
  await run(agent, passTime, 'image.import', { name: 'test', source });
  await run(agent, passTime, 'network.create', { spec: { ...NETWORK, cidr } });
}

async function run<M extends OperationMethod>(
  agent: Agent,
  passTime: () => Promise<void>,
  method: M,
  params: Partial<Params<M>>,
): Promise<void> {
  const { operation } = (await agent.dispatcher.call(method, params, { role: 'admin' })) as {
    operation: Operation;
  };
  while (agent.operations.get(operation.id).endedAt === null) await passTime();
  const { state, error } = agent.operations.get(operation.id);
  if (state !== 'succeeded') throw new Error(`${method}: ${error?.message}`);
}

/** A create as it is, but for the start of the guest and for its journal. */
async function define({ services }: Agent, wanted: Params<'instance.create'>['spec']): Promise<void> {
  const { store } = services;
  const kind = createInstance(services);
  const accepted = store.db.transaction(() => kind.accept({ spec: wanted }, 'operator'));
  const { plan } = accepted as { plan: SeededPlan };
  const context = { signal: new AbortController().signal, onProgress: () => {} } as unknown as ActContext;
  for (const step of kind.stages.flat()) {
    if (!RUNNING_STEPS.includes(step.name)) await step.act(plan, context);
  }
  store.db.transaction(() => kind.succeeded(plan, {}));
}

async function measured(
  node: RealNode,
  { name, instances, goalMs, power }: { name: string; instances: number; goalMs: number; power: string },
): Promise<Case[]> {
  const cpuMs: number[] = [];
  const round = () => start(node, { instances, power }, cpuMs);
  const [values] = (await takeTurns(ROUNDS, [round])) as [number[]];
  return [
    caseOf({ case: `start to serving, ${name}`, unit: 'ms', ours: values, goal: goalMs }),
    caseOf({ case: `CPU of it, ${name}`, unit: 'ms', ours: cpuMs, goal: null }),
  ];
}

/** Milliseconds until it serves; adds those of CPU that it took, which others on the machine change little. */
async function start(
  node: RealNode,
  expected: { instances: number; power: string },
  cpuMs: number[],
): Promise<number> {
  const took = await timed(() => node.start());
  cpuMs.push((1_000 * ticksOf(node.pid)) / TICKS_PER_SECOND);
  const { instances } = await node.call('instance.list', {});
  const asExpected = instances.filter(({ power }) => power.state === expected.power);
  if (asExpected.length !== expected.instances) {
    throw new Error(`${asExpected.length} of ${expected.instances} instances are ${expected.power}`);
  }
  await node.end('SIGTERM');
  return took;
}

async function whilePassing(passTime: () => Promise<void>, promise: Promise<void>): Promise<void> {
  let isSettled = false;
  const settle = () => {
    isSettled = true;
  };
  promise.then(settle, settle);
  while (!isSettled) await passTime();
  await promise;
}
