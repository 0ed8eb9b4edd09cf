/**
 * One byte of a populated database is another: each start works with true data, or sets the file aside and
 * rebuilds. Seeds are fixed, so that a failure can be repeated: BERTH_SEED=N runs one alone.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { prepare, SimAgent, spec } from '../support/sim-agent.ts';
import { auditAgainstHost, databasePath, deleteDatabase, setAside, stateOf } from '../support/state.ts';

const SEEDS = 240;
const ONE = process.env['BERTH_SEED'];
/** Two that begin with the byte 63 of the header would look like a newer Berth's version, which is refused. */
const VERSION_BYTES = new Set([60, 61, 62, 63]);

/** @see https://en.wikipedia.org/wiki/Linear_congruential_generator, Numerical Recipes */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function changed(whole: Buffer, seed: number): { bytes: Buffer; at: number } {
  const next = random(seed * 7919);
  next();
  const bytes = Buffer.from(whole);
  // A quarter of them in the first page, where the header and the schema are.
  const range = seed % 4 === 0 ? 4096 : whole.length;
  const at = Math.floor(next() * range);
  const mask = seed % 2 === 0 ? 1 << Math.floor(next() * 8) : 1 + Math.floor(next() * 255);
  bytes[at] = (bytes[at] as number) ^ mask;
  return { bytes, at };
}

t.test('a changed byte never becomes the truth, and loses no guest', async (t) => {
  const sim = new SimAgent();
  await sim.start();
  t.teardown(async () => {
    await sim.stop();
    rmSync(sim.folder, { recursive: true });
  });
  await prepare(sim);
  await sim.run('volume.create', { name: 'data', sizeGib: 2 });
  for (let n = 0; n < 6; n++) await sim.run('instance.create', { spec: spec(`web-${n}`), key: `key-${n}` });
  await sim.run('instance.create', {
    spec: spec('db', { disks: [{ image: 'debian' }, { volume: 'data' }] }),
  });
  await sim.run('instance.stop', { id: 'db', mode: 'forced' });
  const before = stateOf(sim);
  const { lastSeq } = await sim.call('event.list');
  await sim.stop();
  const whole = readFileSync(databasePath(sim));
  const counts = { worked: 0, rebuilt: 0 };
  const seeds = ONE === undefined ? Array.from({ length: SEEDS }, (_, index) => index + 1) : [Number(ONE)];
  for (const seed of seeds) {
    const { bytes, at } = changed(whole, seed);
    if (VERSION_BYTES.has(at)) continue;
    deleteDatabase(sim);
    writeFileSync(databasePath(sim), bytes);
    const asideBefore = setAside(sim).length;
    const what = `seed ${seed}, byte ${at}`;
    await sim.clock.advance(10);
    await sim.restart();
    t.strictSame(stateOf(sim), before, what);
    auditAgainstHost(t, sim, what);
    const isRebuilt = setAside(sim).length > asideBefore;
    counts[isRebuilt ? 'rebuilt' : 'worked']++;
    const events = await sim.call('event.list');
    t.ok(events.lastSeq >= lastSeq, `${what}: events go on`);
    await sim.stop();
    for (const name of setAside(sim))
      for (const suffix of ['', '-wal', '-shm', '.json'])
        rmSync(`${sim.folder}/${name}${suffix}`, { force: true });
  }
  t.comment(`${whole.length} bytes: ${counts.worked} worked on, ${counts.rebuilt} were rebuilt`);
  await sim.restart();
});
