/**
 * An agent on a simulated host, in this process: its clock stands still until a test lets time pass.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { Agent } from '../../../src/agent/agent.ts';
import { parseConfig } from '../../../src/agent/config/load.ts';
import type { Log } from '../../../src/agent/log.ts';
import type { Drivers } from '../../../src/drivers/contracts/drivers.ts';
import type { Peers } from '../../../src/drivers/contracts/peers.ts';
import {
  createSimHost,
  type SimClock,
  type SimFile,
  type SimGuest,
  type SimHost,
  SimWorld,
  type WorldOptions,
} from '../../../src/drivers/sim/index.ts';
import type { MethodName, OperationMethod, Params, Result } from '../../../src/model/methods.ts';
import { hasEnded, type Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';

/** Sim milliseconds between two looks at a condition, and looks before it is given up. */
const STEP_MS = 50;
const STEPS_LIMIT = 20_000;
/** Steps after which a real millisecond passes, too: what threads do (compression, files) knows no sim time. */
const REAL_TIME_STEPS = 10;

export const IMAGE = '/images/debian.qcow2';
const GIB = 1024 ** 3;

export interface SimAgentOptions extends WorldOptions {
  /** A host that another agent is on already. @default one of its own */
  world?: SimWorld;
  /** More of the configuration, as TOML; it may depend on the state folder. */
  config?: string | ((folder: string) => string);
  /** State folder, with what is in it. @default a new one */
  folder?: string;
  /** Tells who calls on a local socket. @default nobody can */
  peers?: Peers;
}

export class SimAgent {
  readonly world: SimWorld;
  readonly folder: string;
  readonly logged: { level: string; message: string; fields: object }[] = [];
  #host: SimHost;
  readonly #config: string;
  readonly #peers: Peers | null;
  agent: Agent;

  readonly #wrap: (drivers: Drivers) => Drivers;

  /** @param wrap Puts something around the drivers before the agent gets them. */
  constructor(
    { world, config = '', folder, peers, ...options }: SimAgentOptions = {},
    wrap: (drivers: Drivers) => Drivers = (drivers) => drivers,
  ) {
    this.#wrap = wrap;
    this.#peers = peers ?? null;
    this.folder = folder ?? mkdtempSync(join(tmpdir(), 'berth-agent-'));
    this.world = world ?? new SimWorld(options);
    this.#config = typeof config === 'string' ? config : config(this.folder);
    this.world.sources.set(IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: GIB });
    this.#host = createSimHost({ world: this.world });
    this.agent = this.#makeAgent();
  }

  get clock(): SimClock {
    return this.world.clock as SimClock;
  }

  get guests(): SimGuest[] {
    return [...this.world.guests.all()];
  }

  get files(): SimFile[] {
    return [...this.world.files.all()];
  }

  get socketPath(): string {
    return join(this.folder, 'berth.sock');
  }

  async start(): Promise<void> {
    await this.passTimeUntil(this.agent.start());
  }

  async stop(): Promise<void> {
    await this.passTimeUntil(this.agent.stop());
  }

  /** Kills the agent as SIGKILL would: nothing more is written, nothing more is called. */
  async crash(): Promise<void> {
    this.#host.kill();
    this.agent.services.store.close();
    await this.agent.closeSocket();
  }

  /** The next agent on the same host and state folder. */
  async restart(): Promise<void> {
    this.#host = createSimHost({ world: this.world });
    this.agent = this.#makeAgent();
    await this.start();
  }

  async call<M extends MethodName>(method: M, params: Partial<Params<M>> = {}): Promise<Result<M>> {
    const pending = this.agent.dispatcher.call(method, structuredClone(params), { role: 'admin' });
    return (await this.passTimeUntil(pending)) as Result<M>;
  }

  /** Calls an operation and lets time pass until it has ended. */
  async run<M extends OperationMethod>(method: M, params: Partial<Params<M>>): Promise<Operation> {
    const { operation } = (await this.call(method, params)) as { operation: Operation };
    return this.ended(operation.id);
  }

  async ended(id: string): Promise<Operation> {
    await this.until(() => hasEnded(this.agent.operations.get(id).state));
    return this.agent.operations.get(id);
  }

  /** Lets time pass until the condition holds. */
  async until(condition: () => boolean): Promise<void> {
    for (let step = 0; step < STEPS_LIMIT; step++) {
      if (condition()) return;
      await this.clock.advance(STEP_MS);
      if (step % REAL_TIME_STEPS === REAL_TIME_STEPS - 1) await sleep(1);
    }
    throw new Error(`not so after ${STEPS_LIMIT} steps: ${condition}`);
  }

  async passTimeUntil<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const done = () => {
      settled = true;
    };
    promise.then(done, done);
    await this.until(() => settled);
    return promise;
  }

  /** One more agent on the same state folder, which is expected to refuse. */
  secondAgent(): Agent {
    return this.#makeAgent();
  }

  #makeAgent(): Agent {
    const config = parseConfig(
      `[node]\nstateDir = "${this.folder}"\nrunDir = "${this.folder}"\n[socket]\npath = "${this.socketPath}"\n${this.#config}`,
      'test.toml',
    );
    const { hypervisor, pool, pools, network, host, keys, objects } = this.#host;
    return new Agent({
      config,
      drivers: this.#wrap({ hypervisor, pool, pools, network, host, keys, objects }),
      clock: this.world.clock,
      log: this.#log(),
      peers: this.#peers,
    });
  }

  #log(): Log {
    const at = (level: string) => (fields: object, message: string) =>
      void this.logged.push({ level, message, fields });
    return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  }
}

/** A started agent that ends with the test. */
export async function simAgent(
  t: Test,
  options: SimAgentOptions = {},
  wrap?: (drivers: Drivers) => Drivers,
): Promise<SimAgent> {
  const sim = new SimAgent(options, wrap);
  await sim.start();
  t.teardown(async () => {
    sim.world.faults.clear();
    await sim.stop();
    rmSync(sim.folder, { recursive: true });
  });
  return sim;
}

/** The same with an image `debian` and a network `default`. */
export async function readyAgent(t: Test, options: SimAgentOptions = {}): Promise<SimAgent> {
  const sim = await simAgent(t, options);
  await prepare(sim);
  return sim;
}

export async function prepare(sim: SimAgent): Promise<void> {
  await sim.run('image.import', { name: 'debian', source: IMAGE });
  await sim.run('network.create', {
    spec: { name: 'default', cidr: '10.80.0.0/24', nat: true, dhcp: true, dnsServers: [] },
  });
}

export function spec(
  name = 'web',
  change: Partial<Params<'instance.create'>['spec']> = {},
): Params<'instance.create'>['spec'] {
  return {
    name,
    vcpus: 1,
    memoryMib: 512,
    firmware: 'bios',
    disks: [{ image: 'debian', sizeGib: 4 }],
    nics: [{ network: 'default' }],
    sshAuthorizedKeys: [],
    watchdog: 'none',
    policies: DEFAULT_POLICIES,
    ...change,
  };
}
