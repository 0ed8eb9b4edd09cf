/** Images out of object stores: from a real S3 server, from one that breaks off, and what is no such place. */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ObjectStore } from '../../../src/drivers/contracts/objects.ts';
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import { AgentError } from '../../../src/model/errors.ts';
import { startS3Server } from '../s3/server/s3-server.ts';
import { makePool, makeQcow2 } from './fixtures.ts';

const KEY = 'images/debian.qcow2';

async function withStore(t: Test, store: ObjectStore) {
  const { folder, pool } = await makePool(t, { objects: new Map([['far', store]]) });
  const path = await makeQcow2(join(folder, 'source.qcow2'));
  const content = await readFile(path);
  const sha256 = createHash('sha256').update(content).digest('hex');
  await store.put(KEY, createReadStream(path), { sizeBytes: (await stat(path)).size });
  const request = { id: randomUUID(), source: `s3://far/${KEY}`, format: 'qcow2', sha256: null } as const;
  return { pool, content, sha256, request };
}

function simStore(): ObjectStore {
  return createSimHost().objects.get('backups') as ObjectStore;
}

t.test('an image comes from a real S3 server, with its digest', async (t) => {
  const server = await startS3Server(t);
  const { pool, content, sha256, request } = await withStore(t, await server.store({ prefix: 'a/' }));
  const facts = await pool.makeImage({ ...request, sha256 });
  t.match(facts, { sha256, sizeBytes: content.length });
  t.same(await readFile(pool.paths.image(request.id, 'qcow2')), content);
  await t.rejects(pool.makeImage({ ...request, id: randomUUID(), sha256: '0'.repeat(64) }), {
    code: 'IMAGE_REFUSED',
  });
});

/** A store whose objects break off after some bytes, as often as told. */
function breaking(store: ObjectStore, afterBytes: number, times: number) {
  const offsets: number[] = [];
  const get: ObjectStore['get'] = async (key, options = {}) => {
    const read = await store.get(key, options);
    offsets.push(options.range?.offset ?? 0);
    if (offsets.length > times) return read;
    return {
      lengthBytes: read.lengthBytes,
      async *[Symbol.asyncIterator]() {
        let given = 0;
        for await (const piece of read) {
          yield piece;
          given += piece.length;
          if (given >= afterBytes) throw new AgentError('UNAVAILABLE', 'broken off');
        }
      },
      [Symbol.asyncDispose]: () => read[Symbol.asyncDispose](),
    };
  };
  const all = new Proxy(store, {
    get: (target, name) => {
      if (name === 'get') return get;
      const value = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { store: all, offsets };
}

t.test('a transfer that broke off goes on where it was, also in the next agent', async (t) => {
  const { store, offsets } = breaking(simStore(), 128 * 1024, 2);
  const { pool, content, request } = await withStore(t, store);
  await pool.makeImage(request);
  t.same(await readFile(pool.paths.image(request.id, 'qcow2')), content);
  t.same(offsets, [0, 128 * 1024, 256 * 1024]);
});

t.test('an object that was replaced meanwhile is fetched from its beginning', async (t) => {
  const { store, offsets } = breaking(simStore(), 128 * 1024, 1);
  const { content, request } = await withStore(t, store);
  const other = Buffer.from(content);
  other.fill(7, content.length - 4096);
  let replaced = false;
  const swapped = new Proxy(store, {
    get: (target, name) => {
      if (name !== 'head') return Reflect.get(target, name);
      return async (key: string) => {
        if (offsets.length > 0 && !replaced) {
          replaced = true;
          await store.put(KEY, pieces(other));
        }
        const facts = await target.head(key);
        return facts === null ? null : { ...facts, modifiedAtMs: facts.modifiedAtMs + Number(replaced) };
      };
    },
  });
  const { pool } = await makePool(t, { objects: new Map([['far', swapped]]) });
  await pool.makeImage(request);
  t.same(await readFile(pool.paths.image(request.id, 'qcow2')), other);
  t.same(offsets, [0, 0]);
});

async function* pieces(content: Buffer): AsyncGenerator<Uint8Array> {
  yield content;
}

t.test('what is no object of a store is refused', async (t) => {
  const store = simStore();
  const { pool, request } = await withStore(t, store);
  await store.put('empty', pieces(Buffer.alloc(0)));
  for (const [source, code] of [
    ['s3://far', 'INVALID_ARGUMENT'],
    ['s3://far/', 'INVALID_ARGUMENT'],
    ['s3:///key', 'INVALID_ARGUMENT'],
    ['s3://far/../etc/passwd', 'INVALID_ARGUMENT'],
    ['s3://far//images/debian.qcow2', 'INVALID_ARGUMENT'],
    ['s3://other/images/debian.qcow2', 'NOT_FOUND'],
    ['s3://far/images/none', 'NOT_FOUND'],
    ['s3://far/empty', 'IMAGE_REFUSED'],
  ] as const)
    await t.rejects(pool.makeImage({ ...request, id: randomUUID(), source }), { code }, source);
});

t.test('an object larger than an image may be is refused before a byte is fetched', async (t) => {
  const { store, offsets } = breaking(simStore(), 0, 0);
  const { content, request } = await withStore(t, store);
  const { pool } = await makePool(t, {
    objects: new Map([['far', store]]),
    limits: { imageBytes: content.length - 1 },
  });
  await t.rejects(pool.makeImage(request), { code: 'IMAGE_REFUSED' });
  t.same(offsets, []);
});
