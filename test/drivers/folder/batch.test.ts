/** Many objects that are written together: how often the disk is waited for, and what is there at each moment. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { FolderStore } from '../../../src/drivers/folder/store.ts';
import { MARK } from '../../../src/drivers/folder/tree.ts';
import { MIB } from '../../../src/model/units.ts';
import { collect, piecesOf } from '../contract/objects.ts';

function storeIn(path: string): FolderStore {
  return new FolderStore({ name: 'f', path, prefix: 'node/', clock: systemClock });
}

function rig(t: Test): { path: string; store: FolderStore } {
  const path = t.testdir({ [MARK]: '' });
  return { path, store: storeIn(path) };
}

function objectsIn(path: string): string[] {
  return globSync(`${path}/objects/**/*@`);
}

function uploadsIn(path: string): string[] {
  return readdirSync(join(path, 'uploads'));
}

/** Each call that waits for the disk, as it is made. */
async function watchSyncs(t: Test, onSync: (kind: 'datasync' | 'sync') => void): Promise<void> {
  await using handle = await open('/');
  const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, 'datasync' | 'sync'>;
  for (const kind of ['datasync', 'sync'] as const) {
    t.intercept(prototype, kind, { value: watched(prototype[kind], () => onSync(kind)) });
  }
}

function watched(original: () => Promise<void>, told: () => void) {
  return function sync(this: FileHandle): Promise<void> {
    told();
    return original.call(this);
  };
}

t.test('each object is synced once, and each folder once for all of its objects', async (t) => {
  const { path, store } = rig(t);
  await store.put('chunks/00/before', (async function* () {})());
  const counts = { datasync: 0, sync: 0 };
  await watchSyncs(t, (kind) => counts[kind]++);
  await using batch = store.batch();
  const keys = Array.from({ length: 200 }, (_, place) => `chunks/0${place % 8}/${place}`);
  await Promise.all(keys.map((key) => batch.put(key, piecesOf(100))));
  t.same(counts, { datasync: 0, sync: 0 }, 'nothing is waited for before');
  await batch.settle();
  // Eight folders, the one that they are in, and those above it.
  t.equal(counts.datasync, keys.length);
  t.ok(counts.sync <= 8 + 4, `${counts.sync} folders`);
  t.equal(objectsIn(path).length, keys.length + 1);
  t.same(uploadsIn(path), []);
  const before = { ...counts };
  await batch.settle();
  t.same(counts, before, 'what is durable is left alone');
});

t.test('no object has its name before the bytes of its group are on the disk', async (t) => {
  const { path, store } = rig(t);
  const named: number[] = [];
  await watchSyncs(t, (kind) => kind === 'datasync' && named.push(objectsIn(path).length));
  await using batch = store.batch();
  for (let place = 0; place < 20; place++) await batch.put(`a/${place}`, piecesOf(1000));
  t.equal(objectsIn(path).length, 0);
  t.equal(await store.head('a/3'), null, 'nor has anybody else');
  await batch.settle();
  t.same(
    named,
    named.map(() => 0),
  );
  t.equal(objectsIn(path).length, 20);
});

t.test('what is large goes to the disk while more is written, one at a time', async (t) => {
  const { path, store } = rig(t);
  const files = 6;
  await using handle = await open('/');
  const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, 'datasync' | 'writev'>;
  const { datasync, writev } = prototype;
  const written = new EventTarget();
  const counts = { written: 0, begun: 0, underWay: 0, most: 0 };
  t.intercept(prototype, 'writev', {
    value: async function (this: FileHandle, ...args: Parameters<FileHandle['writev']>) {
      const result = await writev.apply(this, args);
      counts.written++;
      written.dispatchEvent(new Event('more'));
      return result;
    },
  });
  t.intercept(prototype, 'datasync', {
    /** A disk that takes as long as it takes to write the next one. */
    value: async function (this: FileHandle): Promise<void> {
      const next = Math.min(++counts.begun + 1, files);
      counts.most = Math.max(counts.most, ++counts.underWay);
      while (counts.written < next) await once(written, 'more');
      await setImmediate();
      await datasync.call(this).finally(() => counts.underWay--);
    },
  });
  await using batch = store.batch();
  for (let place = 0; place < files; place++) await batch.put(`a/${place}`, piecesOf(4 * MIB));
  t.ok(counts.begun >= files - 1, `${counts.begun} were begun before anybody waited for them`);
  t.same(objectsIn(path), [], 'none of them has its name yet');
  await batch.settle();
  t.match(counts, { begun: files, most: 1 }, 'a place is left to those who write');
  t.equal(objectsIn(path).length, files);
});

t.test('where the disk takes nothing more all that was put is taken back', async (t) => {
  const { path, store } = rig(t);
  await using handle = await open('/');
  const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, 'datasync'>;
  t.intercept(prototype, 'datasync', {
    value: () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO', syscall: 'fdatasync' })),
  });
  {
    await using batch = store.batch();
    const putAll = async () => {
      for (let place = 0; place < 6; place++) await batch.put(`a/${place}`, piecesOf(4 * MIB));
    };
    await t.rejects(putAll(), { code: 'UNAVAILABLE' }, 'whoever goes on putting hears of it');
    await t.rejects(batch.settle(), { code: 'UNAVAILABLE' });
  }
  t.same(uploadsIn(path), []);
  t.same(objectsIn(path), []);
});

t.test('more than a group goes to the disk meanwhile, and all of it is there in the end', async (t) => {
  const { path, store } = rig(t);
  await using batch = store.batch();
  for (let place = 0; place < 1100; place++) await batch.put(`a/${place % 3}/${place}`, piecesOf(10));
  t.ok(objectsIn(path).length >= 512, 'the first group');
  t.ok(uploadsIn(path).length > 0, 'and the last one not yet');
  await batch.settle();
  t.equal(objectsIn(path).length, 1100);
  for (let place = 0; place < 5; place++) await batch.put(`b/${place}`, piecesOf(20 * MIB));
  t.ok(objectsIn(path).length < 1105);
  await batch.settle();
  t.equal(objectsIn(path).length, 1105);
});

t.test('the folder of an object that is found is synced, whoever has put it there', async (t) => {
  const { path, store } = rig(t);
  mkdirSync(join(path, 'objects/node/a'), { recursive: true });
  writeFileSync(join(path, 'objects/node/a/left@'), 'of one that was killed');
  let syncs = 0;
  await watchSyncs(t, () => syncs++);
  await using batch = store.batch();
  t.equal(await batch.sizeOf('a/left'), 22);
  await batch.settle();
  t.equal(syncs, 1);
});

t.test('what is not settled is taken back, also where its caller has given up', async (t) => {
  const { path, store } = rig(t);
  const giveUp = new AbortController();
  {
    await using batch = store.batch({ signal: giveUp.signal });
    for (let place = 0; place < 10; place++) await batch.put(`a/${place}`, piecesOf(10));
    t.equal(uploadsIn(path).length, 10);
    giveUp.abort();
    await t.rejects(batch.settle(), { code: 'CANCELLED' });
    await t.rejects(batch.settle(), { code: 'CANCELLED' }, 'and stays so');
  }
  t.same(uploadsIn(path), []);
  t.same(objectsIn(path), []);
});

t.test('a full disk is told as such, and leaves nothing that is half', async (t) => {
  const path = t.testdir();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'berth-test', path]);
  try {
    await fillUp(t, path);
  } finally {
    execFileSync('umount', [path]);
  }
});

async function fillUp(t: Test, path: string): Promise<void> {
  const store = storeIn(path);
  {
    await using batch = store.batch();
    await batch.put('a', piecesOf(MIB));
    await t.rejects(batch.put('b', piecesOf(3 * MIB)), {
      code: 'CAPACITY_EXCEEDED',
      details: { fault: 'refused' },
    });
  }
  t.same(uploadsIn(path), []);
  t.equal(await store.head('b'), null);
  await using batch = store.batch();
  await batch.put('c', piecesOf(MIB / 4));
  await batch.settle();
  t.equal((await collect(await store.get('c'))).length, MIB / 4);
}

t.test('a link in the place of a folder or of an object leads a batch nowhere', async (t) => {
  const { path, store } = rig(t);
  const outside = join(t.testdirName, '..', 'outside-of-a-store');
  mkdirSync(outside, { recursive: true });
  t.teardown(() => execFileSync('rm', ['-r', outside]));
  mkdirSync(join(path, 'objects/node'), { recursive: true });
  symlinkSync(outside, join(path, 'objects/node/out'));
  symlinkSync(join(outside, 'file'), join(path, 'objects/node/link@'));
  {
    await using batch = store.batch();
    await t.rejects(batch.sizeOf('out/a'), { code: 'HOST_CONFLICT' });
    await batch.put('out/a', piecesOf(10));
    await t.rejects(batch.settle(), { code: 'HOST_CONFLICT' });
  }
  await using batch = store.batch();
  t.equal(await batch.sizeOf('link'), null);
  await batch.put('link', piecesOf(10));
  await batch.settle();
  t.match(await store.head('link'), { sizeBytes: 10 }, 'the link is replaced');
  t.same(readdirSync(outside), []);
});

t.test('a store whose mount is missing is not written to', async (t) => {
  const store = storeIn(t.testdir({}));
  await using batch = store.batch();
  await t.rejects(batch.sizeOf('a'), { code: 'UNAVAILABLE', message: /not marked/ });
  await t.rejects(batch.put('a', piecesOf(1)), { code: 'UNAVAILABLE' });
});
