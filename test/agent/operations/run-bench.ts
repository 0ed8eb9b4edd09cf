/** Operations of one kind whose steps do as a test tells them. */
import type { Test } from 'tap';
import type { AnyKind, OperationKind, Step, StepContext } from '../../../src/agent/operations/kind.ts';
import { Operations } from '../../../src/agent/operations/operations.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { SimClock } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { hasEnded, type Operation } from '../../../src/model/operation.ts';

interface Plan {
  name: string;
}

export const TIMEOUT_MS = 60_000;

/** Lets time pass until it is so. */
export async function untilSo(clock: SimClock, condition: () => boolean): Promise<void> {
  for (let step = 0; step < 20_000; step++) {
    if (condition()) return;
    await clock.advance(50);
  }
  throw new Error(`not so: ${condition}`);
}

/** Operations of one kind, on a store in memory and a clock that stands still; what happens is written down. */
export class RunBench {
  readonly clock = new SimClock();
  readonly store = new Store(':memory:', this.clock);
  readonly log: string[] = [];
  readonly warnings: string[] = [];
  /** What the next calls throw, by their name in the log. */
  readonly failures = new Map<string, unknown[]>();
  /** Calls that hang until released or aborted, by their name in the log. */
  readonly gates = new Map<string, PromiseWithResolvers<void>>();
  operations: Operations;
  results: Readonly<Record<string, unknown>> = {};
  readonly #stages: readonly string[][];

  readonly #retryForMs: number | undefined;
  /** Steps that a look finds done. */
  readonly found = new Set<string>();

  constructor(
    t: Test,
    stages: readonly string[][],
    { retryForMs, ...options }: { parallel?: number; retryForMs?: number } = {},
  ) {
    this.#stages = stages;
    this.#retryForMs = retryForMs;
    this.operations = this.start(options);
    t.teardown(() => this.store.close());
  }

  /** The operations of a daemon that starts on this store. */
  start({ parallel = 4, kinds }: { parallel?: number; kinds?: AnyKind[] } = {}): Operations {
    const log = { info: () => {}, warn: (_fields: object, message: string) => this.warnings.push(message) };
    this.operations = new Operations({
      store: this.store,
      clock: this.clock,
      log,
      kinds: kinds ?? this.kinds(),
      parallel,
      timeoutMs: TIMEOUT_MS,
    });
    return this.operations;
  }

  kinds(): AnyKind[] {
    return [this.#kind()];
  }

  submit(name = 'data', key?: string): Operation {
    return this.operations.submit('volume.create', {
      name,
      sizeGib: 1,
      ...(key === undefined ? {} : { key }),
    });
  }

  hang(call: string): void {
    this.gates.set(call, Promise.withResolvers());
  }

  release(call: string): void {
    this.gates.get(call)?.resolve();
    this.gates.delete(call);
  }

  fail(call: string, ...errors: unknown[]): void {
    this.failures.set(call, errors);
  }

  state(id: string): Operation['state'] {
    return this.operations.get(id).state;
  }

  until(condition: () => boolean): Promise<void> {
    return untilSo(this.clock, condition);
  }

  async ended(id: string): Promise<Operation> {
    await this.until(() => hasEnded(this.state(id)));
    return this.operations.get(id);
  }

  #kind(): AnyKind {
    const kind: OperationKind<'volume.create', Plan> = {
      method: 'volume.create',
      version: 1,
      stages: this.#stages.map((stage) => stage.map((name) => this.#step(name))),
      accept: ({ name }) => {
        const id = `00000000-0000-4000-8000-${name.padStart(12, '0')}`;
        return { verdict: 'run', target: { kind: 'volume', id, name }, plan: { name } };
      },
      succeeded: (_plan, results) => {
        this.#failIfToldTo('succeeded');
        this.results = results;
        this.log.push('succeeded');
      },
      undone: () => {
        this.#failIfToldTo('undone');
        this.log.push('undone');
      },
    };
    return kind as unknown as AnyKind;
  }

  #step(name: string): Step<Plan> {
    return {
      name,
      ...(this.#retryForMs === undefined ? {} : { retryForMs: this.#retryForMs }),
      look: async (_plan, context) => {
        await this.#call(`look ${name}`, context);
        return this.found.has(name) ? { result: `found ${name}` } : null;
      },
      act: async (_plan, context) => {
        await this.#call(name, context);
        return `made by ${name}`;
      },
      undo: (_plan, context) => this.#call(`undo ${name}`, context),
    };
  }

  async #call(call: string, { signal }: StepContext): Promise<void> {
    this.log.push(call);
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#failIfToldTo(call);
    const gate = this.gates.get(call);
    if (gate === undefined) return;
    const aborted = Promise.withResolvers<void>();
    const onAbort = () => aborted.reject(new AgentError('CANCELLED', `${call} was aborted`));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    await Promise.race([gate.promise, aborted.promise]);
    signal.removeEventListener('abort', onAbort);
  }

  #failIfToldTo(call: string): void {
    const error = this.failures.get(call)?.shift();
    if (error !== undefined) throw error;
  }
}

export const unavailable = () => new AgentError('UNAVAILABLE', 'cannot be asked');
export const conflict = () => new AgentError('HOST_CONFLICT', 'in the way');
