/** An operation that delegates, on a kind made here: its parts are operations of their own. */
import t, { type Test } from 'tap';
import type { AnyKind, OperationKind, Part, StepContext } from '../../../src/agent/operations/kind.ts';
import { Operations } from '../../../src/agent/operations/operations.ts';
import { Store } from '../../../src/agent/store/store.ts';
import { SimClock } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { hasEnded, type Operation } from '../../../src/model/operation.ts';
import { untilSo } from './run-bench.ts';

const WHOLE = '00000000-0000-4000-8000-000000000000';

function idOf(name: string): string {
  return `00000000-0000-4000-8000-${name.padStart(12, '0')}`;
}

/** `image.delete` stands for a bulk operation on the volumes that its test names; `volume.delete` is a part. */
class Bench {
  readonly clock = new SimClock();
  readonly store = new Store(':memory:', this.clock);
  readonly log: string[] = [];
  readonly gates = new Map<string, PromiseWithResolvers<void>>();
  readonly failures = new Map<string, AgentError>();
  operations: Operations;
  readonly #parallel: number;
  #partNames: string[] = [];

  constructor(t: Test, { parallel = 4 }: { parallel?: number } = {}) {
    this.#parallel = parallel;
    this.operations = this.start();
    t.teardown(() => this.store.close());
  }

  start(): Operations {
    this.operations = new Operations({
      store: this.store,
      clock: this.clock,
      log: { info: () => {}, warn: () => {} },
      kinds: [this.#whole(), this.#part()],
      parallel: this.#parallel,
      timeoutMs: 600_000,
    });
    return this.operations;
  }

  submit(...partNames: string[]): Operation {
    this.#partNames = partNames;
    return this.operations.submit('image.delete', { id: 'all' });
  }

  hang(...names: string[]): void {
    for (const name of names) this.gates.set(name, Promise.withResolvers());
  }

  release(name: string): void {
    this.gates.get(name)?.resolve();
    this.gates.delete(name);
  }

  parts(id: string): Operation[] {
    return this.operations.list({ parentId: id, limit: 100 }).toReversed();
  }

  states(id: string): string[] {
    return this.parts(id).map(({ target, state }) => `${target.name} ${state}`);
  }

  until(condition: () => boolean): Promise<void> {
    return untilSo(this.clock, condition);
  }

  async ended(id: string): Promise<Operation> {
    await this.until(() => hasEnded(this.operations.get(id).state));
    return this.operations.get(id);
  }

  #whole(): AnyKind {
    const kind: OperationKind<'image.delete', { names: string[] }> = {
      method: 'image.delete',
      version: 1,
      delegates: true,
      stages: [
        [
          {
            name: 'delete-all',
            look: async () => null,
            act: ({ names }, { runParts }) =>
              runParts(names.map((name): Part => ({ name, method: 'volume.delete', params: { id: name } }))),
            undo: async () => void this.log.push('undo whole'),
          },
        ],
      ],
      accept: () => ({
        verdict: 'run',
        target: { kind: 'image', id: WHOLE, name: 'all' },
        plan: { names: this.#partNames },
      }),
      succeeded: () => void this.log.push('whole succeeded'),
      undone: () => void this.log.push('whole undone'),
    };
    return kind as unknown as AnyKind;
  }

  #part(): AnyKind {
    const kind: OperationKind<'volume.delete', string> = {
      method: 'volume.delete',
      version: 1,
      stages: [
        [
          {
            name: 'delete',
            look: async () => null,
            act: (name, context) => this.#act(name, context),
            undo: async (name) => void this.log.push(`undo ${name}`),
          },
        ],
      ],
      accept: ({ id }) => {
        if (id === 'refused') throw new AgentError('ILLEGAL_STATE', 'it is in use');
        const target = id === 'itself' ? { kind: 'image', id: WHOLE } : { kind: 'volume', id: idOf(id) };
        return {
          verdict: 'run',
          target: { ...(target as { kind: 'volume'; id: string }), name: id },
          plan: id,
        };
      },
      succeeded: () => undefined,
      undone: () => undefined,
    };
    return kind as unknown as AnyKind;
  }

  async #act(name: string, { signal }: StepContext): Promise<void> {
    this.log.push(name);
    const error = this.failures.get(name);
    if (error !== undefined) throw error;
    const gate = this.gates.get(name);
    if (gate === undefined) return;
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(new AgentError('CANCELLED', 'aborted'));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    await Promise.race([gate.promise, aborted.promise]);
    signal.removeEventListener('abort', onAbort);
  }
}

t.test('the parts run together, and the whole succeeds once all of them have', async (t) => {
  const bench = new Bench(t);
  bench.hang('a', 'b');
  const { id } = bench.submit('a', 'b', 'c', 'd');
  await bench.until(() => bench.operations.get(id).children.ended === 2);
  t.match(bench.operations.get(id), {
    state: 'running',
    progress: { percent: 50, phase: '2 of 4 parts' },
    children: { total: 4, ended: 2 },
  });
  t.same(bench.states(id), ['a running', 'b running', 'c succeeded', 'd succeeded']);
  bench.release('a');
  bench.release('b');
  t.match(await bench.ended(id), { state: 'succeeded', children: { total: 4, ended: 4 } });
  t.ok(bench.parts(id).every(({ parentId }) => parentId === id));
});

t.test('wholes that wait take no place from their parts', async (t) => {
  const bench = new Bench(t, { parallel: 1 });
  const { id } = bench.submit('a', 'b');
  t.equal((await bench.ended(id)).state, 'succeeded');
});

t.test('the failure of a part is that of the whole, once the other parts have been cancelled', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  bench.failures.set('b', new AgentError('HOST_CONFLICT', 'in the way'));
  const { id } = bench.submit('c', 'a', 'b');
  t.match(await bench.ended(id), {
    state: 'failed',
    error: { code: 'HOST_CONFLICT', message: /^volume\.delete of b, a part of it, was undone: in the way/ },
  });
  t.same(bench.states(id), ['c succeeded', 'a cancelled', 'b failed']);
  t.ok(
    bench.log.indexOf('undo a') < bench.log.indexOf('undo whole'),
    'parts have ended before the whole is undone',
  );
});

t.test('a part that failed for want of an answer is not asked for again and again', async (t) => {
  const bench = new Bench(t);
  bench.failures.set('a', new AgentError('DEADLINE_EXCEEDED', 'late'));
  const { id } = bench.submit('a');
  const startMs = bench.clock.now();
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  t.ok(bench.clock.now() - startMs < 1_000);
});

t.test('a part that is cancelled by itself fails the whole', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  const { id } = bench.submit('a', 'b');
  await bench.until(() => bench.log.includes('a'));
  bench.operations.cancel(bench.parts(id)[0]!.id);
  t.match(await bench.ended(id), { state: 'failed', error: { message: /was cancelled/ } });
});

t.test('a cancel of the whole cancels its parts, also those that wait for a place', async (t) => {
  const bench = new Bench(t, { parallel: 2 });
  bench.hang('a', 'b', 'c');
  const { id } = bench.submit('a', 'b', 'c');
  await bench.until(() => bench.log.includes('b'));
  bench.operations.cancel(id);
  t.match(await bench.ended(id), { state: 'cancelled', error: { code: 'CANCELLED' } });
  t.same(bench.states(id), ['a cancelled', 'b cancelled', 'c cancelled']);
  t.notOk(bench.log.includes('c'));
});

t.test('the next daemon finds the parts again, and makes none twice', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  const { id } = bench.submit('a', 'b');
  await bench.until(() => bench.operations.get(id).children.ended === 1);
  const before = bench.parts(id).map((part) => part.id);
  await bench.operations.suspend();
  t.same(bench.states(id), ['a running', 'b succeeded'], 'nothing is cancelled by going down');
  bench.release('a');
  bench.log.length = 0;
  bench.start().resume();
  t.match(await bench.ended(id), { state: 'succeeded', children: { total: 2, ended: 2 } });
  t.same(
    bench.parts(id).map((part) => part.id),
    before,
  );
  t.same(bench.log, ['a', 'whole succeeded']);
});

t.test('a cancel that the old daemon did not get to act on reaches the parts in the next one', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  const { id } = bench.submit('a');
  await bench.until(() => bench.log.includes('a'));
  void bench.operations.suspend();
  bench.store.db.transaction(() => bench.store.operations.requestCancel(id, '2026-01-01T00:00:00.000Z'));
  await bench.operations.suspend();
  bench.start().resume();
  t.equal((await bench.ended(id)).state, 'cancelled');
  t.same(bench.states(id), ['a cancelled']);
});

t.test('a part that is refused fails the whole, and those before it are cancelled', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  const { id } = bench.submit('a', 'refused');
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'ILLEGAL_STATE' } });
  t.same(bench.states(id), ['a cancelled']);
});

t.test(
  'a part about the object of the whole, which would wait for ever, is a defect that is told',
  async (t) => {
    const bench = new Bench(t);
    const { id } = bench.submit('itself');
    t.match(await bench.ended(id), {
      state: 'failed',
      error: { code: 'INTERNAL', message: /wait for ever/ },
    });
  },
);

t.test('more parts than a step may have are refused before the first is made', async (t) => {
  const bench = new Bench(t);
  const { id } = bench.submit(...Array.from({ length: 257 }, (_, index) => String(index)));
  t.match(await bench.ended(id), {
    state: 'failed',
    error: { code: 'INVALID_ARGUMENT', message: /256 at most/ },
  });
  t.same(bench.parts(id), []);
});

t.test('history keeps the parts of what goes on', async (t) => {
  const bench = new Bench(t);
  bench.hang('a');
  const { id } = bench.submit('a', 'b');
  await bench.until(() => bench.operations.get(id).children.ended === 1);
  const { store } = bench;
  const ended = bench.operations.submit('volume.delete', { id: 'z' });
  await bench.ended(ended.id);
  store.db.transaction(() => {
    store.db.sql('UPDATE operations SET rowid = rowid + 10000 WHERE id = ?').run(ended.id);
    store.operations.trim();
  });
  t.same(bench.states(id), ['a running', 'b succeeded']);
  bench.release('a');
  t.equal((await bench.ended(id)).state, 'succeeded');
});
