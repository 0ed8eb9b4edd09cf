/**
 * The simulated pool beyond its contract: room, and copying that takes time.
 */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import { steppedHost } from './rig.ts';

const SOURCE = '/images/a.qcow2';
const FACTS = { sha256: 'cd'.repeat(32), sizeBytes: 1_000_000, virtualSizeBytes: 1_048_576 };

t.test('the room of a pool is what it has less what its files take', async (t) => {
  const { pool, world } = steppedHost({ poolBytes: 1_500_000 });
  world.sources.set(SOURCE, FACTS);
  const image = { source: SOURCE, format: 'qcow2', sha256: null } as const;
  const id = randomUUID();
  await pool.makeImage({ id, ...image });
  t.same(await pool.capacity(), {
    totalBytes: 1_500_000,
    availableBytes: 500_000,
    ownBytes: 1_000_000,
    fileSystem: null,
    shared: false,
  });
  const second = randomUUID();
  await t.rejects(pool.makeImage({ id: second, ...image }), { code: 'CAPACITY_EXCEEDED' });
  t.equal((await pool.list()).length, 1);
  await pool.removeImage(id, 'qcow2');
  await pool.makeImage({ id: second, ...image });
});

t.test('a copy that takes time shows a partial file, and its progress', async (t) => {
  const { pool, world, clock } = steppedHost({ timing: { copyMs: 1_000 } });
  world.sources.set(SOURCE, FACTS);
  const id = randomUUID();
  const progress: number[] = [];
  const onProgress = (doneBytes: number) => void progress.push(doneBytes);
  const made = pool.makeImage({ id, source: SOURCE, format: 'qcow2', sha256: null }, { onProgress });
  await clock.advance(600);
  t.equal(await pool.lookImage(id, 'qcow2'), null);
  t.match(await pool.list(), [{ kind: 'image', id }]);
  t.same(progress, [250_000, 500_000]);
  await clock.advance(400);
  t.match(await made, FACTS);
  t.match(await pool.list(), [{ path: pool.paths.image(id, 'qcow2') }]);
});

t.test('a copy that is cancelled, late or cut off leaves nothing', async (t) => {
  const { pool, world, clock } = steppedHost({ timing: { copyMs: 1_000 } });
  world.sources.set(SOURCE, FACTS);
  const controller = new AbortController();
  const make = (options: { signal?: AbortSignal; timeoutMs?: number }) =>
    pool.makeImage({ id: randomUUID(), source: SOURCE, format: 'qcow2', sha256: null }, options);
  const cancelled = t.rejects(make({ signal: controller.signal }), { code: 'CANCELLED' });
  const late = t.rejects(make({ timeoutMs: 300 }), { code: 'DEADLINE_EXCEEDED' });
  const cut = t.rejects(make({}), { code: 'UNAVAILABLE' });
  await clock.advance(200);
  t.equal(world.files.usedBytes, 3 * FACTS.sizeBytes);
  controller.abort();
  await clock.advance(100);
  world.faults.cutOff('storage')();
  await Promise.all([cancelled, late, cut]);
  t.same(await pool.list(), []);
  t.equal(world.files.usedBytes, 0);
});

t.test('a killed copy leaves its partial file, and the next process makes the image anew', async (t) => {
  const { pool, world, clock, kill } = steppedHost({ timing: { copyMs: 1_000 } });
  world.sources.set(SOURCE, FACTS);
  const id = randomUUID();
  const request = { id, source: SOURCE, format: 'qcow2', sha256: FACTS.sha256 } as const;
  const settle = () => t.fail('a killed call settled');
  pool.makeImage(request).then(settle, settle);
  await clock.advance(500);
  kill();
  await clock.advance(10_000);
  const next = createSimHost({ world }).pool;
  t.equal(await next.lookImage(id, 'qcow2'), null);
  t.equal((await next.list()).length, 1);
  const made = next.makeImage(request);
  await clock.advance(1_000);
  t.match(await made, FACTS);
  t.equal((await next.list()).length, 1);
});
