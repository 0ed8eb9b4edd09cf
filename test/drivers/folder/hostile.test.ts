/**
 * What a folder that others may write to, or that is not what was meant, does to a store: links out of it, pipes, folders
 * in the place of files, a mount that is missing, a disk that is full.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { FolderStore } from '../../../src/drivers/folder/store.ts';
import { MARK } from '../../../src/drivers/folder/tree.ts';
import { MIB } from '../../../src/model/units.ts';
import { bytesOf, collect } from '../contract/objects.ts';

const DAY_MS = 24 * 3_600_000;

function storeIn(path: string): FolderStore {
  return new FolderStore({ name: 'f', path, prefix: '', clock: systemClock });
}

/** A store, and a folder beside it that nothing may touch. */
function rig(t: Test) {
  const folder = t.testdir({ store: { [MARK]: '' }, outside: { 'secret@': 'not yours' } });
  const [path, outside] = [join(folder, 'store'), join(folder, 'outside')];
  return {
    path,
    outside,
    store: storeIn(path),
    secret: () => readFileSync(join(outside, 'secret@'), 'utf8'),
  };
}

t.test('a link in the place of a folder leads nowhere', async (t) => {
  const { path, outside, store, secret } = rig(t);
  await store.put('a/b', bytesOf(1));
  symlinkSync(outside, join(path, 'objects/out'));
  await t.rejects(store.put('out/secret', bytesOf(9)), { code: 'HOST_CONFLICT' });
  await t.rejects(store.get('out/secret'), { code: 'HOST_CONFLICT' });
  await t.rejects(store.head('out/secret'), { code: 'HOST_CONFLICT' });
  await t.rejects(store.removeMany(['out/secret']), { code: 'HOST_CONFLICT' });
  t.same(
    (await store.list()).objects.map(({ key }) => key),
    ['a/b'],
    'and is not listed',
  );
  t.equal(secret(), 'not yours');
  t.same(readdirSync(outside), ['secret@']);
});

t.test('a link in the place of an object is not read, and a write replaces the link itself', async (t) => {
  const { path, outside, store, secret } = rig(t);
  await store.put('a', bytesOf(1));
  symlinkSync(join(outside, 'secret@'), join(path, 'objects/b@'));
  await t.rejects(store.get('b'), { code: 'HOST_CONFLICT' });
  t.equal(await store.head('b'), null);
  t.same(
    (await store.list()).objects.map(({ key }) => key),
    ['a'],
  );
  await store.put('b', bytesOf(3));
  t.same(await collect(await store.get('b')), await collect(bytesOf(3)));
  t.equal(secret(), 'not yours');
});

t.test('a link in the place of the uploads, or of one, is not written through', async (t) => {
  const { path, outside, store, secret } = rig(t);
  symlinkSync(outside, join(path, 'uploads'));
  await t.rejects(store.put('a', bytesOf(9)), { code: 'HOST_CONFLICT' });
  rmSync(join(path, 'uploads'));
  mkdirSync(join(path, 'uploads'));
  const id = randomUUID();
  symlinkSync(join(outside, 'secret@'), join(path, `uploads/${id}.part`));
  writeFileSync(join(path, `uploads/${id}.json`), JSON.stringify({ key: 'a' }));
  const upload = { key: 'a', uploadId: id, partBytes: 8 * MIB };
  await t.rejects(store.put('a', bytesOf(9), { upload, onUpload: () => undefined }), {
    code: 'HOST_CONFLICT',
  });
  t.equal(secret(), 'not yours');
});

t.test('a pipe or a folder in the place of an object is refused, and holds nobody up', async (t) => {
  const { path, store } = rig(t);
  await store.put('a', bytesOf(1));
  execFileSync('mkfifo', [join(path, 'objects/pipe@')]);
  mkdirSync(join(path, 'objects/folder@'));
  await t.rejects(store.get('pipe'), { code: 'HOST_CONFLICT' });
  await t.rejects(store.get('folder'), { code: 'HOST_CONFLICT' });
  await t.rejects(store.put('folder', bytesOf(1)), { code: 'HOST_CONFLICT' });
  t.same(
    (await store.list()).objects.map(({ key }) => key),
    ['a'],
  );
  t.same(readdirSync(join(path, 'uploads')), [], 'what could not be put into its place is gone');
});

t.test('the name of an upload is no path', async (t) => {
  const { path, outside, store, secret } = rig(t);
  const uploadId = '../../outside/secret@';
  writeFileSync(join(outside, 'secret@.part'), 'nor this');
  const begun: string[] = [];
  await store.put('a', bytesOf(10 * MIB), {
    upload: { key: 'a', uploadId, partBytes: 8 * MIB },
    onUpload: (name) => void begun.push(name.uploadId),
  });
  t.equal(begun.length, 1, 'it is begun anew');
  await store.abortUpload({ key: 'a', uploadId });
  t.equal(secret(), 'not yours');
  t.ok(existsSync(join(outside, 'secret@.part')));
  t.same(readdirSync(join(path, 'uploads')), []);
});

t.test('what says nothing about an upload is passed over', async (t) => {
  const { path, store } = rig(t);
  mkdirSync(join(path, 'uploads'));
  for (const text of ['', 'null', '[]', '{"key":"../a"}', '{"key":7}', 'x'.repeat(5000)])
    writeFileSync(join(path, `uploads/${randomUUID()}.json`), text);
  mkdirSync(join(path, `uploads/${randomUUID()}.json`));
  t.same(await store.listUploads(), []);
});

t.test('a folder that is not marked, or not there, is not written to', async (t) => {
  const path = t.testdir({ empty: {} });
  const empty = join(path, 'empty');
  const hint = new RegExp(`touch ${empty}/${MARK}`);
  const calls: (() => Promise<unknown>)[] = [
    () => storeIn(empty).put('a', bytesOf(1)),
    () => storeIn(empty).probe(),
    () => storeIn(empty).list(),
  ];
  for (const call of calls) await t.rejects(call, { code: 'UNAVAILABLE', hint });
  t.same(readdirSync(empty), []);
  await t.rejects(storeIn(join(path, 'none')).put('a', bytesOf(1)), {
    code: 'UNAVAILABLE',
    details: { fault: 'unreachable' },
  });
  t.same(readdirSync(path), ['empty']);
  writeFileSync(join(empty, MARK), '');
  await storeIn(empty).put('a', bytesOf(1));
});

t.test('a mount that goes away takes the store with it, and what is below is not written to', async (t) => {
  const path = t.testdir();
  const store = storeIn(path);
  await mounted(path, 'size=8m', async () => {
    await store.put('a', bytesOf(1));
    t.ok(existsSync(join(path, MARK)), 'an empty mount is marked by itself');
  });
  await t.rejects(store.put('b', bytesOf(1)), { code: 'UNAVAILABLE' });
  await t.rejects(store.head('a'), { code: 'UNAVAILABLE' }, 'what is not there is not told as gone');
  t.same(readdirSync(path), []);
});

t.test('a mount that holds other things is not marked by itself', async (t) => {
  const path = t.testdir();
  await mounted(path, 'size=8m', async () => {
    writeFileSync(join(path, 'holiday.jpg'), '');
    await t.rejects(storeIn(path).put('a', bytesOf(1)), { code: 'UNAVAILABLE' });
    t.same(readdirSync(path), ['holiday.jpg']);
  });
});

t.test('a full disk is told as such, and leaves nothing of the object', async (t) => {
  const path = t.testdir();
  await mounted(path, 'size=2m', async () => {
    const store = storeIn(path);
    await store.put('a', bytesOf(MIB));
    await t.rejects(store.put('b', bytesOf(3 * MIB)), {
      code: 'CAPACITY_EXCEEDED',
      details: { fault: 'refused' },
    });
    t.equal(await store.head('b'), null);
    t.same(readdirSync(join(path, 'uploads')), []);
    await store.put('c', bytesOf(MIB / 4));
  });
});

t.test('a disk that may only be read is told as such', async (t) => {
  const path = t.testdir();
  await mounted(path, 'size=2m', async () => {
    await storeIn(path).put('a', bytesOf(10));
    execFileSync('mount', ['-o', 'remount,ro', path]);
    await t.rejects(storeIn(path).put('b', bytesOf(1)), { code: 'PERMISSION_DENIED' });
    t.equal((await collect(await storeIn(path).get('a'))).length, 10);
  });
});

t.test('a key whose part is longer than a file name may be is refused', async (t) => {
  const { store } = rig(t);
  await t.rejects(store.put('x'.repeat(300), bytesOf(1)), { code: 'INVALID_ARGUMENT' });
});

t.test('an object that is replaced while it is read is read to its end as it was', async (t) => {
  const { store } = rig(t);
  await store.put('a', bytesOf(3 * MIB, 1));
  const read = await store.get('a');
  await store.put('a', bytesOf(3 * MIB, 2));
  t.same(await collect(read), await collect(bytesOf(3 * MIB, 1)));
});

t.test('an object that is cut off while it is read is damaged', async (t) => {
  const { path, store } = rig(t);
  await store.put('a', bytesOf(3 * MIB));
  const read = await store.get('a');
  writeFileSync(join(path, 'objects/a@'), 'short');
  await t.rejects(collect(read), { code: 'DATA_DAMAGED' });
});

t.test(
  'what a killed process has left of a write goes when it is old, and an upload with a name stays',
  async (t) => {
    const { path, store } = rig(t);
    await store.probe();
    const [old, young, named] = [randomUUID(), randomUUID(), randomUUID()];
    for (const id of [old, young, named]) writeFileSync(join(path, `uploads/${id}.part`), 'x');
    writeFileSync(join(path, `uploads/${named}.json`), JSON.stringify({ key: 'a' }));
    const before = new Date(Date.now() - 2 * DAY_MS);
    for (const id of [old, named]) utimesSync(join(path, `uploads/${id}.part`), before, before);
    await store.probe();
    const left = readdirSync(join(path, 'uploads')).sort();
    t.same(left, [`${young}.part`, `${named}.part`, `${named}.json`].sort());
  },
);

t.test('a folder that is swapped for a link between two calls leads nowhere', async (t) => {
  const { path, outside, store, secret } = rig(t);
  await store.put('a/secret', bytesOf(1));
  renameSync(join(path, 'objects/a'), join(path, 'objects/was'));
  symlinkSync(outside, join(path, 'objects/a'));
  await t.rejects(store.put('a/secret', bytesOf(5)), { code: 'HOST_CONFLICT' });
  t.equal(secret(), 'not yours');
});

async function mounted(path: string, options: string, act: () => Promise<void>): Promise<void> {
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'berth-test', path]);
  try {
    await act();
  } finally {
    execFileSync('umount', [path]);
  }
}
