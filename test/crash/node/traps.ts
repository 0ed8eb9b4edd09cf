/**
 * Counts what a berthd does, and springs the trap at its moment.
 *
 * Everything that changes the host passes by the drivers' contracts, and everything that is remembered by the
 * store's commits; so these two, and the host programs that the real drivers run, are all the moments there are.
 */
import { execFileSync } from 'node:child_process';
import type { Drivers } from '../../../src/drivers/contracts/drivers.ts';
import type { CallOptions } from '../../../src/drivers/contracts/calls.ts';
import type { ObjectBatch, ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import type { Exec } from '../../../src/drivers/host/exec.ts';
import { AgentError } from '../../../src/model/errors.ts';
import type { CommitWatch } from '../../../src/sqlite/database.ts';
import type { Counted, Counts, Deed, Failing, Holding, Moment, Trap, WorldChange } from './protocol.ts';

/** Calls that change nothing on the host: being killed beside one is like being killed beside its neighbours. */
const READS =
  /\.(health|onHealth|onDevices|subscribe|close|facts|resources|load|devices|examine|features|capacity|prepare|uses|survey|head|get|probe|sizeOf|guestAddresses|names|\w+(Name|Paths)|(list|look|observe|read)\w*)$/;

type AnyFunction = (...args: unknown[]) => unknown;

export class Traps implements CommitWatch {
  readonly #springs: (deed: Deed) => void;
  #begun = none();
  #trap: Trap | null = null;
  #failing: Failing | null = null;
  #holding: Holding | null = null;
  #holds = false;
  #sprung = false;

  constructor(parts: { setClock(offsetMs: number): void; changeWorld(change: WorldChange): void }) {
    this.#springs = (deed) => spring(deed, parts);
  }

  get counts(): Counts {
    return { ...this.#begun };
  }

  /** Whether a call waits where it was told to. */
  get holds(): boolean {
    return this.#holds;
  }

  get sprung(): boolean {
    return this.#sprung;
  }

  /** Counts anew. */
  arm(parts: { trap: Trap | null; failing: Failing | null; holding: Holding | null }): void {
    this.#begun = none();
    this.#trap = parts.trap;
    this.#failing = parts.failing;
    this.#holding = parts.holding;
    this.#holds = false;
    this.#sprung = false;
  }

  do(deed: Deed): void {
    this.#springs(deed);
  }

  beforeCommit(): void {
    this.#pass({ of: 'commit', when: 'before', nth: ++this.#begun.commit });
  }

  afterCommit(): void {
    this.#pass({ of: 'commit', when: 'after', nth: this.#begun.commit });
  }

  watchExec(exec: Exec): Exec {
    return {
      run: async (...args) => {
        const nth = ++this.#begun.command;
        this.#pass({ of: 'command', when: 'before', nth });
        const result = await exec.run(...args);
        this.#pass({ of: 'command', when: 'after', nth });
        return result;
      },
    };
  }

  watchDrivers({ hypervisor, pool, pools, network, host, keys, objects }: Drivers): Drivers {
    return {
      keys,
      objects: new Map(Array.from(objects, ([name, each]) => [name, this.#watchStore(each)])),
      hypervisor: this.#watch('hypervisor', hypervisor),
      pool: this.#watch('storage', pool),
      pools: new Map(Array.from(pools, ([name, each]) => [name, this.#watch('storage', each)])),
      network: this.#watch('network', network),
      host: this.#watch('host', host),
    };
  }

  /** What is written together is watched as it is written. */
  #watchStore(store: ObjectStore): ObjectStore {
    const watched = this.#watch('objects', store);
    const batch = (options?: CallOptions) => this.#watchBatch(store.batch(options));
    return new Proxy(watched, {
      get: (_, property) => (property === 'batch' ? batch : (Reflect.get(watched, property) as unknown)),
    });
  }

  /** By hand: V8 finds no way to dispose of a proxy. */
  #watchBatch(batch: ObjectBatch): ObjectBatch {
    const { put, settle, sizeOf } = this.#watch('objects.batch', batch);
    return { put, settle, sizeOf, [Symbol.asyncDispose]: () => batch[Symbol.asyncDispose]() };
  }

  #watch<T extends object>(driver: string, target: T): T {
    return new Proxy(target, {
      get: (_, property) => {
        const value = Reflect.get(target, property) as unknown;
        if (typeof value !== 'function') return value;
        return this.#watched(`${driver}.${String(property)}`, value.bind(target));
      },
    });
  }

  #watched(name: string, call: AnyFunction): AnyFunction {
    if (READS.test(name)) return (...args) => this.#failed(name) ?? call(...args);
    return async (...args) => {
      const nth = ++this.#begun.call;
      await this.#hold(name, args);
      this.#pass({ of: 'call', when: 'before', nth });
      const answer = await (this.#failed(name) ?? call(...args));
      this.#pass({ of: 'call', when: 'after', nth });
      return answer;
    };
  }

  #failed(name: string): Promise<never> | null {
    if (this.#failing?.call !== name) return null;
    return Promise.reject(new AgentError('INTERNAL', `${name} is made to fail`));
  }

  async #hold(name: string, args: unknown[]): Promise<void> {
    if (this.#holding?.call !== name) return;
    this.#holding = null;
    this.#holds = true;
    const { signal } = args.at(-1) as { signal: AbortSignal };
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    throw new AgentError('CANCELLED', `${name} was given up`);
  }

  #pass(moment: Moment): void {
    const trap = this.#trap;
    if (trap === null || trap.of !== moment.of || trap.when !== moment.when || trap.nth !== moment.nth)
      return;
    this.#trap = null;
    this.#sprung = true;
    this.#springs(trap.deed);
  }
}

function none(): Record<Counted, number> {
  return { commit: 0, call: 0, command: 0 };
}

function spring(
  deed: Deed,
  parts: { setClock(offsetMs: number): void; changeWorld(change: WorldChange): void },
): void {
  switch (deed.do) {
    case 'signal':
      process.kill(deed.pid ?? process.pid, deed.signal);
      return;
    case 'run':
      execFileSync(deed.argv[0] as string, deed.argv.slice(1), { stdio: 'ignore' });
      return;
    case 'clock':
      parts.setClock(deed.offsetMs);
      return;
    case 'world':
      parts.changeWorld(deed.change);
  }
}
