import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import { hasEnded } from '../../../src/model/operation.ts';
import { conflict, RunBench, TIMEOUT_MS, unavailable } from './run-bench.ts';

t.test('steps of one stage run together, stages one after the other', async (t) => {
  const bench = new RunBench(t, [['a', 'b'], ['c']]);
  bench.hang('a');
  bench.hang('b');
  const { id } = bench.submit();
  await bench.until(() => bench.log.length === 2);
  t.same(bench.log, ['a', 'b']);
  bench.release('a');
  await bench.until(() => bench.operations.get(id).steps[0]?.state === 'done');
  t.same(bench.log, ['a', 'b'], 'the next stage waits for all of this one');
  bench.release('b');
  t.equal((await bench.ended(id)).state, 'succeeded');
  t.same(bench.log, ['a', 'b', 'c', 'succeeded']);
});

t.test('what was begun is undone in reverse; what was not begun is left alone', async (t) => {
  const bench = new RunBench(t, [['a', 'b'], ['c'], ['d'], ['e']]);
  bench.fail('d', conflict());
  t.match(await bench.ended(bench.submit().id), {
    state: 'failed',
    error: { code: 'HOST_CONFLICT' },
    steps: [
      { state: 'undone' },
      { state: 'undone' },
      { state: 'undone' },
      { state: 'undone' },
      { state: 'waiting' },
    ],
  });
  t.same(bench.log, ['a', 'b', 'c', 'd', 'undo d', 'undo c', 'undo b', 'undo a', 'undone']);
});

t.test('a step that could not be asked is tried again until it answers, with a look before', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.fail('a', ...Array.from({ length: 6 }, unavailable));
  t.equal((await bench.ended(bench.submit().id)).state, 'succeeded');
  t.same(bench.log, ['a', ...Array.from({ length: 6 }, () => ['look a', 'a']).flat(), 'succeeded']);
});

t.test(
  'a step that waits for its next try says so, with the last error, and no longer than that',
  async (t) => {
    const bench = new RunBench(t, [['a', 'b'], ['c']]);
    bench.fail('a', unavailable(), unavailable());
    bench.hang('c');
    const { id } = bench.submit();
    await bench.until(() => bench.operations.get(id).retry?.attempt === 2);
    const { retry } = bench.operations.get(id);
    t.match(retry, {
      step: 'a',
      doing: 'act',
      error: { code: 'UNAVAILABLE', message: 'cannot be asked' },
      needsOperator: false,
    });
    t.ok(Date.parse(retry!.nextTryAt) > bench.clock.now(), 'the next try is to come');
    t.ok(Date.parse(retry!.since) < bench.clock.now());
    await bench.until(() => bench.log.includes('c'));
    t.equal(bench.operations.get(id).retry, null);
    bench.release('c');
    t.match(await bench.ended(id), { state: 'succeeded', retry: null });
  },
);

t.test('an error that trying can not mend is not tried again', async (t) => {
  const bench = new RunBench(t, [['a']]);
  for (const error of [conflict(), new TypeError('a defect'), 'text']) {
    bench.log.length = 0;
    bench.fail('a', error);
    t.equal((await bench.ended(bench.submit().id)).state, 'failed');
    t.same(bench.log, ['a', 'undo a', 'undone'], String(error));
  }
});

t.test('after an act that gave no answer in its time the host is looked at, and decides', async (t) => {
  const late = () => new AgentError('DEADLINE_EXCEEDED', 'late');
  const bench = new RunBench(t, [['a']]);
  bench.fail('a', late());
  t.match(await bench.ended(bench.submit().id), { state: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
  t.same(bench.log, ['a', 'look a', 'undo a', 'undone'], 'it is not done: it is not asked for again');
  bench.log.length = 0;
  bench.fail('a', late());
  bench.found.add('a');
  t.equal((await bench.ended(bench.submit().id)).state, 'succeeded', 'it was done all the same');
  t.same(bench.log, ['a', 'look a', 'succeeded']);
  t.same(bench.results, { a: 'found a' });
});

t.test(
  'a step waits for its next try no longer than the operation has, and the end says what for',
  async (t) => {
    const bench = new RunBench(t, [['a']]);
    bench.fail('a', ...Array.from({ length: 50 }, unavailable));
    const { id } = bench.submit();
    const startMs = bench.clock.now();
    t.match(await bench.ended(id), {
      state: 'failed',
      error: { code: 'DEADLINE_EXCEEDED', message: 'Not done in 60 s: cannot be asked' },
    });
    t.ok(bench.clock.now() - startMs < TIMEOUT_MS + 1_000);
    t.equal(bench.clock.pending, 0, 'no timer is left');
  },
);

t.test('a cancel ends the pause before the next try', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.fail('a', ...Array.from({ length: 5 }, unavailable));
  const { id } = bench.submit();
  await bench.until(() => bench.operations.get(id).retry?.attempt === 3);
  await bench.clock.advance(0);
  const nowMs = bench.clock.now();
  bench.operations.cancel(id);
  t.match(await bench.ended(id), { state: 'cancelled', retry: null });
  t.ok(bench.clock.now() - nowMs < 1_000);
});

t.test('a step may be given less patience than its operation has', async (t) => {
  const bench = new RunBench(t, [['a']], { retryForMs: 3_000 });
  bench.fail('a', ...Array.from({ length: 50 }, unavailable));
  t.match(await bench.ended(bench.submit().id), { state: 'failed', error: { code: 'UNAVAILABLE' } });
});

t.test('an undo that waits for its next try says so, and whether trying alone will help', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.fail('a', conflict());
  bench.fail('undo a', unavailable(), conflict(), conflict());
  const { id } = bench.submit();
  await bench.until(() => bench.operations.get(id).retry?.attempt === 1);
  t.match(bench.operations.get(id), {
    state: 'undoing',
    retry: { step: 'a', doing: 'undo', needsOperator: false },
  });
  await bench.until(() => bench.operations.get(id).retry?.attempt === 2);
  t.match(bench.operations.get(id).retry, { error: { code: 'HOST_CONFLICT' }, needsOperator: true });
  t.same(
    [...bench.operations.inTrouble()].map((each) => [each.id, each.retry?.attempt]),
    [[id, 2]],
  );
  t.match(await bench.ended(id), { state: 'failed', retry: null });
  t.same([...bench.operations.inTrouble()], []);
});

t.test(
  'one that is cancelled while it waits for its turn ends at once, and nothing of it is run',
  async (t) => {
    const bench = new RunBench(t, [['a']], { parallel: 1 });
    bench.hang('a');
    const first = bench.submit('first');
    await bench.until(() => bench.log.includes('a'));
    const second = bench.submit('second');
    const waiting = bench.operations.wait(second.id, 60_000);
    t.match(bench.operations.cancel(second.id), {
      state: 'cancelled',
      startedAt: null,
      error: { code: 'CANCELLED' },
    });
    t.equal((await waiting).state, 'cancelled', 'whoever waits for it is told');
    t.same(bench.log, ['a', 'undone'], 'its rows go, its steps are not called');
    bench.release('a');
    t.equal((await bench.ended(first.id)).state, 'succeeded');
    t.equal((await bench.ended(bench.submit('third').id)).state, 'succeeded', 'the queue goes on');
    t.same(bench.log, ['a', 'undone', 'succeeded', 'a', 'succeeded']);
  },
);

t.test('a cancel that was answered is remembered by the next daemon', async (t) => {
  const bench = new RunBench(t, [['a'], ['b']]);
  bench.hang('a');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('a'));
  void bench.operations.suspend(); // the old daemon does not get to act on the cancel
  bench.store.db.transaction(() => bench.store.operations.requestCancel(id, '2026-01-01T00:00:00.000Z'));
  bench.release('a');
  await bench.operations.suspend();
  bench.log.length = 0;
  bench.start().resume();
  t.match(await bench.ended(id), { state: 'cancelled', error: { code: 'CANCELLED' } });
  t.same(bench.log, ['undo a', 'undone']);
});

t.test('a step that fails stops those beside it, and is the reason', async (t) => {
  const bench = new RunBench(t, [['a', 'b']]);
  bench.hang('a');
  bench.fail('b', conflict());
  const { id } = bench.submit();
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'HOST_CONFLICT' } });
  t.same(bench.log, ['a', 'b', 'undo b', 'undo a', 'undone']);
});

t.test('what an older version began is ended by the walk of that version', async (t) => {
  for (const end of ['succeeded', 'undone'] as const) {
    const bench = new RunBench(t, [['a'], ['b']]);
    bench.hang('b');
    const { id } = bench.submit();
    await bench.until(() => bench.log.includes('b'));
    await bench.operations.suspend();
    bench.release('b');
    bench.log.length = 0;
    if (end === 'undone') bench.fail('b', conflict());
    const [old] = bench.kinds();
    const newer = { ...old!, version: 2, stages: [], past: [old!] };
    bench.start({ kinds: [newer] }).resume();
    t.ok(hasEnded((await bench.ended(id)).state));
    t.equal(bench.log.at(-1), end);
    t.ok(bench.log.includes('b'), 'its own steps are walked');
  }
});

t.test('the plan, which may hold secrets, is kept no longer than the operation', async (t) => {
  const bench = new RunBench(t, [['a']]);
  const { id } = bench.submit('secret');
  t.same(bench.store.operations.get(id).plan, { name: 'secret' });
  await bench.ended(id);
  t.equal(bench.store.operations.get(id).plan, null);
});

t.test('a cancel while it is undone changes nothing of its end, nor does one after it', async (t) => {
  const bench = new RunBench(t, [['a'], ['b']]);
  bench.fail('b', conflict());
  bench.hang('undo a');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('undo a'));
  t.equal(bench.operations.cancel(id).state, 'undoing');
  bench.release('undo a');
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'HOST_CONFLICT' } });
  t.equal(bench.operations.cancel(id).state, 'failed');
  t.same(bench.log, ['a', 'b', 'undo b', 'undo a', 'undone']);
});

t.test('a cancel between two steps, and one after the last, is undone', async (t) => {
  for (const at of ['a', 'b']) {
    const bench = new RunBench(t, [['a'], ['b']]);
    bench.hang(at);
    const { id } = bench.submit();
    await bench.until(() => bench.log.includes(at));
    bench.operations.cancel(id);
    bench.release(at);
    t.match(await bench.ended(id), { state: 'cancelled', error: { code: 'CANCELLED' } }, at);
    t.equal(bench.log.at(-1), 'undone');
  }
});

t.test('what is not done in its time is undone, and says so', async (t) => {
  const bench = new RunBench(t, [['a'], ['b']]);
  bench.hang('b');
  const { id } = bench.submit();
  await bench.clock.advance(TIMEOUT_MS - 1);
  t.equal(bench.state(id), 'running');
  await bench.clock.advance(1);
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'DEADLINE_EXCEEDED', message: /60 s/ } });
  t.same(bench.log, ['a', 'b', 'undo b', 'undo a', 'undone']);
  t.equal(bench.clock.pending, 0, 'no timer is left');
});

t.test('an undo is tried until it works, for as long as that takes', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.fail('a', conflict());
  bench.fail('undo a', ...Array.from({ length: 12 }, unavailable));
  t.equal((await bench.ended(bench.submit().id)).state, 'failed');
  t.equal(bench.log.filter((call) => call === 'undo a').length, 13);
});

t.test('an undo that is suspended goes on in the next daemon where it stood', async (t) => {
  const bench = new RunBench(t, [['a'], ['b'], ['c']]);
  bench.fail('c', conflict());
  bench.hang('undo b');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('undo b'));
  await bench.operations.suspend();
  t.equal(bench.state(id), 'undoing');
  t.equal(bench.clock.pending, 0, 'no timer is left');
  bench.release('undo b');
  bench.log.length = 0;
  bench.start().resume();
  t.match(await bench.ended(id), { state: 'failed', error: { code: 'HOST_CONFLICT' } });
  t.same(bench.log, ['undo b', 'undo a', 'undone']);
});

t.test('suspending does not wait for the pause before a step or an undo is tried again', async (t) => {
  for (const failing of ['a', 'undo a']) {
    const bench = new RunBench(t, [['a']]);
    if (failing === 'undo a') bench.fail('a', conflict());
    bench.fail(failing, unavailable());
    const { id } = bench.submit();
    await bench.until(() => bench.log.includes(failing));
    await bench.clock.advance(0);
    const nowMs = bench.clock.now();
    await bench.operations.suspend();
    t.equal(bench.clock.now(), nowMs, failing);
    bench.start().resume();
    t.ok(hasEnded((await bench.ended(id)).state));
  }
});

t.test('what steps have answered survives a restart, and is there at the end', async (t) => {
  const bench = new RunBench(t, [['a', 'b'], ['c']]);
  bench.hang('c');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('c'));
  await bench.operations.suspend();
  bench.release('c');
  bench.log.length = 0;
  bench.start().resume();
  t.equal((await bench.ended(id)).state, 'succeeded');
  t.same(bench.log, ['look c', 'c', 'succeeded'], 'the step that was cut off is looked at first');
  t.same(bench.results, { a: 'made by a', b: 'made by b', c: 'made by c' });
});

t.test(
  'an operation of an unknown kind or version fails visibly, and what it made can be deleted',
  async (t) => {
    for (const change of [{ kind: 'volume.melt' }, { version: 2 }]) {
      const bench = new RunBench(t, [['a']]);
      bench.hang('a');
      const { id, target } = bench.submit();
      await bench.until(() => bench.log.includes('a'));
      await bench.operations.suspend();
      const { store } = bench;
      store.db.transaction(() => {
        store.volumes.insert({ ...VOLUME, id: target.id }, null);
        const { kind, version } = { kind: 'volume.create', version: 1, ...change };
        store.db.sql('UPDATE operations SET kind = ?, version = ?').run(kind, version);
      });
      bench.log.length = 0;
      bench.start().resume();
      t.match(bench.operations.get(id), {
        state: 'failed',
        error: { code: 'UNSUPPORTED', message: /another version/ },
      });
      t.equal(store.volumes.get(target.id).state, 'deleting');
      t.same(bench.log, [], 'nothing is run of it');
      bench.release('a');
      t.equal((await bench.ended(bench.submit().id)).state, 'succeeded', 'its object takes operations');
    }
  },
);

const VOLUME = {
  id: '',
  name: 'data',
  pool: 'p',
  sizeGib: 1,
  imageId: null,
  instanceId: null,
  deletedWithInstance: false,
  protected: false,
  device: {},
  qos: null,
  encryption: null,
  state: 'creating',
  createdAt: '2026-01-01T00:00:00.000Z',
} as const;

t.test('a wait wakes at the end, at its time, and when the caller has gone', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.hang('a');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('a'));
  const timers = bench.clock.pending;
  const short = bench.operations.wait(id, 1_000);
  await bench.clock.advance(999);
  t.equal(bench.clock.pending, timers + 1);
  await bench.clock.advance(1);
  t.equal((await short).state, 'running');
  const caller = new AbortController();
  const gone = bench.operations.wait(id, 50_000, caller.signal);
  caller.abort();
  t.equal((await gone).state, 'running');
  t.equal(
    (await bench.operations.wait(id, 50_000, caller.signal)).state,
    'running',
    'one who has gone before',
  );
  t.equal(bench.clock.pending, timers, 'no timer is left');
  const both = [bench.operations.wait(id, 50_000), bench.operations.wait(id, 50_000)];
  bench.release('a');
  t.match(await Promise.all(both), [{ state: 'succeeded' }, { state: 'succeeded' }]);
  await t.rejects(bench.operations.wait('nope', 1_000), { code: 'NOT_FOUND' });
});
