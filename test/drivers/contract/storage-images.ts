/** The part of the contract of StoragePool about images. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import type { ImageFormat } from '../../../src/model/storage.ts';
import { type MakePool, rejectsWith, request } from './storage-fixture.ts';

const OTHER_SHA256 = '0'.repeat(64);

export function imageTests(t: Test, make: MakePool): void {
  t.test('an image is made, looked up, listed and removed', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const facts = await pool.makeImage({ id, ...request(valid) });
    const { sha256, sizeBytes, virtualSizeBytes } = valid;
    t.same(facts, { sha256, fileSha256: sha256, sizeBytes, virtualSizeBytes, hardware: null });
    t.same(await pool.lookImage(id, valid.format), facts);
    t.match(await pool.list(), [
      { kind: 'image', id, path: pool.paths.image(id, valid.format), standsOn: null },
    ]);
    await pool.removeImage(id, valid.format);
    t.equal(await pool.lookImage(id, valid.format), null);
    t.same(await pool.list(), []);
  });

  t.test('an image needs no digest from the caller', async (t) => {
    const { pool, valid } = await make(t);
    const facts = await pool.makeImage({ id: randomUUID(), ...request(valid), sha256: null });
    t.equal(facts.sha256, valid.sha256);
  });

  t.test('making an image again is answered as done', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const first = await pool.makeImage({ id, ...request(valid) });
    t.same(await pool.makeImage({ id, ...request(valid) }), first);
    t.same(await pool.makeImage({ id, ...request(valid), sha256: null }), first);
    t.equal((await pool.list()).length, 1);
  });

  t.test('two callers that make one image at once both get it', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const make2 = () => pool.makeImage({ id, ...request(valid) });
    const [a, b] = await Promise.all([make2(), make2()]);
    t.same(a, b);
    t.equal((await pool.list()).length, 1);
  });

  t.test('progress only grows, and ends with all bytes', async (t) => {
    const { pool, valid } = await make(t);
    const seen: number[] = [];
    const onProgress = (doneBytes: number) => void seen.push(doneBytes);
    await pool.makeImage({ id: randomUUID(), ...request(valid) }, { onProgress });
    t.same(
      seen,
      seen.toSorted((a, b) => a - b),
    );
    t.equal(seen.at(-1), valid.sizeBytes);
  });
}

export function imageRefusalTests(t: Test, make: MakePool): void {
  t.test('an image of another digest is refused, and nothing is left', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'IMAGE_REFUSED', () =>
      pool.makeImage({ id, ...request(valid), sha256: OTHER_SHA256 }),
    );
    await nothingLeft(t, pool, id, valid.format);
  });

  t.test('a digest that is no digest is an invalid argument', async (t) => {
    const { pool, valid } = await make(t);
    await rejectsWith(t, 'INVALID_ARGUMENT', () =>
      pool.makeImage({ id: randomUUID(), ...request(valid), sha256: 'beef' }),
    );
  });

  t.test('a hostile image is refused, and nothing is left', async (t) => {
    const { pool, hostile } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'IMAGE_REFUSED', () => pool.makeImage({ id, ...hostile, sha256: null }));
    await nothingLeft(t, pool, id, hostile.format);
  });

  t.test('a source of which there is nothing is NOT_FOUND, and nothing is left', async (t) => {
    const { pool, missingSource } = await make(t);
    const id = randomUUID();
    await rejectsWith(t, 'NOT_FOUND', () =>
      pool.makeImage({ id, source: missingSource, format: 'qcow2', sha256: null }),
    );
    await nothingLeft(t, pool, id, 'qcow2');
  });

  t.test('an image that exists with another digest or format is a conflict, and stays', async (t) => {
    const { pool, valid } = await make(t);
    const id = randomUUID();
    const facts = await pool.makeImage({ id, ...request(valid) });
    const other: ImageFormat = valid.format === 'qcow2' ? 'raw' : 'qcow2';
    await rejectsWith(t, 'HOST_CONFLICT', () =>
      pool.makeImage({ id, ...request(valid), sha256: OTHER_SHA256 }),
    );
    await rejectsWith(t, 'HOST_CONFLICT', () => pool.makeImage({ id, ...request(valid), format: other }));
    t.same(await pool.lookImage(id, valid.format), facts);
  });
}

/** A failed make leaves at most the partial file, and `removeImage` removes that. */
async function nothingLeft(t: Test, pool: StoragePool, id: string, format: ImageFormat): Promise<void> {
  t.equal(await pool.lookImage(id, format), null);
  await pool.removeImage(id, format);
  t.same(await pool.list(), []);
}
