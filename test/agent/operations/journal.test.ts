/** What an operation writes into its journal, in how many commits, and what happens where nothing can be written. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import { hasEnded } from '../../../src/model/operation.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';
import { conflict, RunBench, unavailable } from './run-bench.ts';

/** Keeps the journal from growing, as a full disk does; the answer gives room again. */
function fillDisk({ store }: RunBench): () => void {
  const set = (pages: number) => store.db.sql(`PRAGMA max_page_count = ${pages}`).get();
  const pad = (size: number) =>
    store.db.transaction(() => store.events.append('inventory.changed', null, { text: 'x'.repeat(size) }));
  set(store.db.sql('PRAGMA page_count').get()?.['page_count'] as number);
  for (const size of [3_000, 1_000, 300, 100, 10, 0]) {
    try {
      for (let i = 0; i < 10_000; i++) pad(size);
    } catch (error) {
      if (AgentError.from(error).code !== 'UNAVAILABLE') throw error;
    }
  }
  return () => set(1_000_000);
}

t.test('a cancel that cannot be journaled is refused, and the operation goes on', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.hang('a');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('a'));
  const giveRoom = fillDisk(bench);
  t.throws(() => bench.operations.cancel(id), { code: 'UNAVAILABLE' });
  giveRoom();
  bench.release('a');
  t.equal((await bench.ended(id)).state, 'succeeded');
});

t.test('an operation whose journal cannot be written ends once it can', async (t) => {
  for (const at of ['a', 'undo a']) {
    const bench = new RunBench(t, [['a'], ['b']]);
    if (at === 'undo a') bench.fail('b', conflict());
    bench.hang(at);
    const { id } = bench.submit();
    await bench.until(() => bench.log.includes(at));
    const giveRoom = fillDisk(bench);
    t.throws(() => bench.submit('other'), { code: 'UNAVAILABLE' }, 'no other is taken meanwhile');
    bench.release(at);
    await bench.until(() => bench.warnings.includes('a run broke off and is tried again'));
    t.notOk(hasEnded(bench.state(id)), at);
    giveRoom();
    t.ok(hasEnded((await bench.ended(id)).state));
    t.match(bench.log.at(-1), /succeeded|undone/);
  }
});

t.test('a kind whose last rows cannot be written is undone, not lost', async (t) => {
  const bench = new RunBench(t, [['a']]);
  bench.fail('succeeded', new TypeError('a defect'));
  bench.fail('undone', new TypeError('another'), new TypeError('and once more'));
  t.match(await bench.ended(bench.submit().id), {
    state: 'failed',
    error: { code: 'INTERNAL', message: /a defect/ },
  });
  t.same(bench.log, ['a', 'undo a', 'undone']);
  t.equal((await bench.ended(bench.submit().id)).state, 'succeeded', 'its object takes operations');
});

t.test('what nothing is before begins with its acceptance; what waits for its turn does not', async (t) => {
  const bench = new RunBench(t, [['a', 'b'], ['c']], { parallel: 1 });
  bench.hang('a');
  const first = bench.submit('first');
  t.match(first, { state: 'running', steps: [{ state: 'begun' }, { state: 'begun' }, { state: 'waiting' }] });
  t.equal(first.startedAt, first.createdAt);
  t.match(bench.submit('second'), { state: 'pending', startedAt: null, steps: [{ state: 'waiting' }] });
  await bench.until(() => bench.log.includes('b'));
  bench.release('a');
  t.equal((await bench.ended(first.id)).state, 'succeeded');
  t.same(bench.log.slice(0, 4), ['a', 'b', 'c', 'succeeded'], 'nothing was looked at');
});

t.test('what the last daemon had only accepted is looked at before it acts', async (t) => {
  const bench = new RunBench(t, [['a'], ['b']]);
  const { id } = bench.submit();
  await bench.operations.suspend();
  bench.log.length = 0;
  bench.start().resume();
  t.equal((await bench.ended(id)).state, 'succeeded');
  t.same(bench.log, ['look a', 'a', 'b', 'succeeded']);
});

t.test('the ends of steps that run together are one commit, unless one takes its time', async (t) => {
  const bench = new RunBench(t, [['a', 'b', 'c']]);
  let commits = 0;
  const transaction = bench.store.db.transaction.bind(bench.store.db);
  bench.store.db.transaction = (body) => {
    commits++;
    return transaction(body);
  };
  t.equal((await bench.ended(bench.submit('quick').id)).state, 'succeeded');
  t.equal(commits, 2, 'its acceptance and its end');
  bench.hang('c');
  const { id } = bench.submit('slow');
  await bench.until(() => bench.operations.get(id).steps[1]?.state === 'done');
  t.match(bench.operations.get(id).steps, [{ state: 'done' }, { state: 'done' }, { state: 'begun' }]);
  t.equal(commits, 4, 'its acceptance, and the two that had ended');
  bench.release('c');
  t.equal((await bench.ended(id)).state, 'succeeded');
  t.equal(commits, 5);
});

t.test('an end that waits for those beside it is not lost while the disk is full', async (t) => {
  const bench = new RunBench(t, [['a', 'b']]);
  bench.hang('b');
  const { id } = bench.submit();
  await bench.until(() => bench.log.includes('b'));
  const { transaction } = bench.store.db;
  let refused = 0;
  bench.store.db.transaction = () => {
    refused++;
    throw unavailable();
  };
  await bench.until(() => refused > 0);
  bench.store.db.transaction = transaction;
  bench.release('b');
  t.match(await bench.ended(id), { state: 'succeeded', steps: [{ state: 'done' }, { state: 'done' }] });
  t.same(bench.log, ['a', 'b', 'succeeded'], 'neither is run or looked at again');
});

/** Commits in the write-ahead log: frames that carry the size of the database. @see sqlite.org/fileformat2.html, 4 */
function commitsOf(sim: SimAgent): number {
  const log = readFileSync(join(sim.folder, 'berth.sqlite-wal'));
  const FRAME_HEADER = 24;
  const frameBytes = FRAME_HEADER + log.readUInt32BE(8);
  const salts = log.subarray(16, 24);
  let commits = 0;
  for (let at = 32; at + frameBytes <= log.length; at += frameBytes) {
    if (log.subarray(at + 8, at + 16).equals(salts) && log.readUInt32BE(at + 4) > 0) commits++;
  }
  return commits;
}

t.test('a create costs at most 7 commits from the request to its end', async (t) => {
  const sim = await readyAgent(t);
  const before = commitsOf(sim);
  const { state } = await sim.run('instance.create', { spec: spec() });
  const commits = commitsOf(sim) - before;
  t.equal(state, 'succeeded');
  t.comment(`${commits} commits`);
  t.ok(commits > 1 && commits <= 7, `${commits} commits`);
});
