/**
 * The contract of ObjectStore, as tests: each implementation calls `objectsContract` and passes all of it.
 *
 * What only a real wire can show (hostile servers, retries, memory) is in the driver's own tests.
 */
import { createHash } from 'node:crypto';
import type { Test } from 'tap';
import {
  OBJECT_BYTES_LIMIT,
  type ObjectStore,
  type UploadName,
} from '../../../src/drivers/contracts/objects.ts';
import { AgentError, type ErrorCode } from '../../../src/model/errors.ts';
import { MIB } from '../../../src/model/units.ts';

/** Stores that are empty, and what the tests need around them. */
export interface ObjectsFixture {
  store: ObjectStore;
  /** The same store by another object, as a process that is started next has it. */
  reopen(): Promise<ObjectStore>;
  /** Bytes that the far side has been sent. */
  receivedBytes(): number;
}

export type MakeStore = (t: Test) => Promise<ObjectsFixture>;

/** Enough for three parts of any implementation, where the size is told. */
const LARGE_BYTES = 20 * MIB;
/** Headers and the like beside the bytes of objects. */
const OVERHEAD_BYTES = 256 * 1024;
const BAD_KEYS = [
  '',
  '/',
  'a//b',
  '../a',
  'a/../b',
  'a/',
  '/a',
  'a b',
  'ä',
  'a\n',
  'x'.repeat(513),
  '.a',
  'a/.b',
];

/** Registers the whole suite as one subtest of `t`. */
export function objectsContract(t: Test, name: string, make: MakeStore): void {
  t.test(`${name} keeps the contract of ObjectStore`, async (t) => {
    refusalTests(t, make);
    objectTests(t, make);
    batchTests(t, make);
    damageTests(t, make);
    listTests(t, make);
    uploadTests(t, make);
    leftUploadTests(t, make);
  });
}

function refusalTests(t: Test, make: MakeStore): void {
  t.test('a key that is not one of ours is refused by every call', async (t) => {
    const { store } = await make(t);
    for (const key of BAD_KEYS) {
      await rejectsWith(t, 'INVALID_ARGUMENT', () => store.head(key), `head ${key}`);
      await rejectsWith(t, 'INVALID_ARGUMENT', () => store.put(key, bytesOf(1)), `put ${key}`);
      await rejectsWith(t, 'INVALID_ARGUMENT', () => store.get(key), `get ${key}`);
      await rejectsWith(t, 'INVALID_ARGUMENT', () => store.removeMany(['a', key]), `remove ${key}`);
    }
    await rejectsWith(t, 'INVALID_ARGUMENT', () => store.list({ prefix: '../' }));
    await rejectsWith(t, 'INVALID_ARGUMENT', () => store.list({ limit: 1001 }));
  });

  t.test('a call whose signal is aborted already is CANCELLED and writes nothing', async (t) => {
    const { store } = await make(t);
    const signal = AbortSignal.abort();
    await rejectsWith(t, 'CANCELLED', () => store.put('a', bytesOf(10), { signal }));
    await rejectsWith(t, 'CANCELLED', () => store.head('a', { signal }));
    await rejectsWith(t, 'CANCELLED', () => store.removeMany(['a'], { signal }));
    await rejectsWith(t, 'CANCELLED', () => store.list({}, { signal }));
    t.equal(await store.head('a'), null);
  });

  t.test('an object that would be too large is refused before anything is sent', async (t) => {
    const { store, receivedBytes } = await make(t);
    const before = receivedBytes();
    await rejectsWith(t, 'CAPACITY_EXCEEDED', () =>
      store.put('a', bytesOf(1), { sizeBytes: OBJECT_BYTES_LIMIT + 1 }),
    );
    t.equal(receivedBytes(), before);
  });
}

function objectTests(t: Test, make: MakeStore): void {
  t.test('an object is written, looked at, read and removed', async (t) => {
    const { store } = await make(t);
    await store.probe();
    const stored = await store.put('a/b.c', bytesOf(100_000));
    t.same(stored, { key: 'a/b.c', sizeBytes: 100_000, sha256: await digestOf(bytesOf(100_000)) });
    const facts = await store.head('a/b.c');
    t.match(facts, { key: 'a/b.c', sizeBytes: 100_000 });
    t.ok(Number.isSafeInteger(facts?.modifiedAtMs));
    const read = await store.get('a/b.c', { sha256: stored.sha256 });
    t.equal(read.lengthBytes, 100_000);
    t.equal(await digestOf(read), stored.sha256);
    await store.removeMany(['a/b.c', 'never-was']);
    t.equal(await store.head('a/b.c'), null);
    await rejectsWith(t, 'NOT_FOUND', () => store.get('a/b.c'));
  });

  t.test('an empty object is an object', async (t) => {
    const { store } = await make(t);
    const stored = await store.put('empty', bytesOf(0), { sizeBytes: 0 });
    t.match(await store.head('empty'), { sizeBytes: 0 });
    t.equal(await digestOf(await store.get('empty', { sha256: stored.sha256 })), stored.sha256);
  });

  t.test('writing a key again replaces its object', async (t) => {
    const { store } = await make(t);
    await store.put('a', bytesOf(10, 1));
    const second = await store.put('a', bytesOf(20, 2));
    t.equal(await digestOf(await store.get('a')), second.sha256);
  });

  t.test('a range is read to the byte, and one beyond the object is refused', async (t) => {
    const { store } = await make(t);
    await store.put('a', bytesOf(1000));
    const all = await collect(bytesOf(1000));
    t.same(await collect(await store.get('a', { range: { offset: 10, length: 5 } })), all.subarray(10, 15));
    t.same(await collect(await store.get('a', { range: { offset: 999, length: 1 } })), all.subarray(999));
    await rejectsWithAny(t, ['INVALID_ARGUMENT', 'UNAVAILABLE'], () =>
      store.get('a', { range: { offset: 990, length: 20 } }),
    );
    await rejectsWith(t, 'INVALID_ARGUMENT', () => store.get('a', { range: { offset: 1000, length: 1 } }));
    await rejectsWith(t, 'INVALID_ARGUMENT', () => store.get('a', { range: { offset: 0, length: 0 } }));
  });

  t.test('reading may be left early, or never begun', async (t) => {
    const { store } = await make(t);
    await store.put('a', bytesOf(3 * MIB));
    for await (const _ of await store.get('a')) break;
    {
      await using _unread = await store.get('a');
    }
    t.equal((await collect(await store.get('a'))).length, 3 * MIB);
  });

  t.test('a source that fails makes no object, and its error is told', async (t) => {
    const { store } = await make(t);
    const failing = async function* () {
      yield new Uint8Array(10);
      throw new AgentError('HOST_CONFLICT', 'the disk went away');
    };
    await rejectsWith(t, 'HOST_CONFLICT', () => store.put('a', failing()));
    t.equal(await store.head('a'), null);
  });
}

function batchTests(t: Test, make: MakeStore): void {
  t.test('what a batch has settled is there for everybody, and the batch may go on', async (t) => {
    const { store, reopen } = await make(t);
    await store.put('a/there', bytesOf(7));
    await using batch = store.batch();
    t.equal(await batch.sizeOf('a/there'), 7);
    t.equal(await batch.sizeOf('a/new'), null);
    const keys = Array.from({ length: 20 }, (_, place) => `a/${place % 4}/object-${place}`);
    await Promise.all(keys.map((key, place) => batch.put(key, piecesOf(place * 1000))));
    t.equal(await batch.sizeOf(keys[3] as string), 3000, 'the batch has it at once');
    await batch.settle();
    const other = await reopen();
    for (const [place, key] of keys.entries())
      t.equal(await digestOf(await other.get(key)), await digestOf(bytesOf(place * 1000)), key);
    await batch.put('a/later', piecesOf(10));
    await batch.settle();
    t.match(await other.head('a/later'), { sizeBytes: 10 });
    t.equal((await other.list({ prefix: 'a/' })).objects.length, keys.length + 2);
  });

  t.test('an object that is put twice in a batch is the later one, whole', async (t) => {
    const { store } = await make(t);
    await store.put('twice', bytesOf(3));
    await using batch = store.batch();
    await batch.put('twice', piecesOf(50_000));
    await batch.put('twice', piecesOf(40_000));
    t.equal(await batch.sizeOf('twice'), 40_000);
    await batch.settle();
    t.equal(await digestOf(await store.get('twice')), await digestOf(bytesOf(40_000)));
  });

  t.test('a batch that is given up leaves no half of anything', async (t) => {
    const { store } = await make(t);
    {
      await using batch = store.batch();
      await batch.put('given-up', piecesOf(100_000));
    }
    const facts = await store.head('given-up');
    if (facts !== null)
      t.equal(await digestOf(await store.get('given-up')), await digestOf(bytesOf(100_000)));
    t.same(await store.listUploads(), []);
    await store.batch()[Symbol.asyncDispose]();
  });

  t.test('a batch refuses keys that are not ours, and ends with its signal', async (t) => {
    const { store } = await make(t);
    await using batch = store.batch();
    for (const key of BAD_KEYS) {
      await rejectsWith(t, 'INVALID_ARGUMENT', () => batch.sizeOf(key), `size of ${key}`);
      await rejectsWith(t, 'INVALID_ARGUMENT', () => batch.put(key, piecesOf(1)), `put ${key}`);
    }
    await batch.settle();
    await using ended = store.batch({ signal: AbortSignal.abort() });
    await rejectsWith(t, 'CANCELLED', () => ended.put('a', piecesOf(10)));
    await rejectsWith(t, 'CANCELLED', () => ended.sizeOf('a'));
    t.equal(await store.head('a'), null);
  });
}

function damageTests(t: Test, make: MakeStore): void {
  t.test('a source of another size or digest than told makes no object', async (t) => {
    const { store } = await make(t);
    await rejectsWith(t, 'DATA_DAMAGED', () => store.put('a', bytesOf(10), { sizeBytes: 11 }));
    await rejectsWith(t, 'DATA_DAMAGED', () => store.put('a', bytesOf(100_000), { sizeBytes: 99_999 }));
    await rejectsWith(t, 'DATA_DAMAGED', () => store.put('a', bytesOf(10), { sha256: '0'.repeat(64) }));
    await rejectsWith(t, 'DATA_DAMAGED', () =>
      store.put('a', bytesOf(LARGE_BYTES), { sizeBytes: LARGE_BYTES, sha256: '0'.repeat(64) }),
    );
    t.equal(await store.head('a'), null);
    t.same(await store.listUploads(), []);
  });

  t.test('bytes that are not the expected ones are an error at their end', async (t) => {
    const { store } = await make(t);
    await store.put('a', bytesOf(1000, 1));
    const expected = await digestOf(bytesOf(1000, 2));
    await rejectsWith(t, 'DATA_DAMAGED', async () => collect(await store.get('a', { sha256: expected })));
  });
}

function listTests(t: Test, make: MakeStore): void {
  t.test('keys are listed in order, in pages, by prefix', async (t) => {
    const { store } = await make(t);
    const keys = ['a', 'a-b', 'a/1', 'a/2', 'a/3', 'b'];
    for (const key of keys.toReversed()) await store.put(key, bytesOf(3));
    const page = await store.list({ prefix: 'a/', limit: 2 });
    t.same(
      page.objects.map(({ key, sizeBytes }) => [key, sizeBytes]),
      [
        ['a/1', 3],
        ['a/2', 3],
      ],
    );
    const rest = await store.list({ prefix: 'a/', limit: 2, after: page.next ?? '' });
    t.same([rest.objects.map(({ key }) => key), rest.next], [['a/3'], null]);
    t.same(
      (await store.list()).objects.map(({ key }) => key),
      keys,
    );
    t.same(await store.list({ prefix: 'none' }), { objects: [], next: null });
  });

  t.test('more keys than one request takes are removed', async (t) => {
    const { store } = await make(t);
    await store.put('kept', bytesOf(1));
    await store.put('k250', bytesOf(1));
    await store.removeMany(Array.from({ length: 260 }, (_, i) => `k${i}`));
    t.same(
      (await store.list()).objects.map(({ key }) => key),
      ['kept'],
    );
    await store.removeMany([]);
  });
}

function uploadTests(t: Test, make: MakeStore): void {
  t.test('a stream of unknown length becomes one object', async (t) => {
    const { store } = await make(t);
    const stored = await store.put('large', bytesOf(LARGE_BYTES));
    t.equal(stored.sizeBytes, LARGE_BYTES);
    t.equal(await digestOf(await store.get('large', { sha256: stored.sha256 })), stored.sha256);
    t.same(await store.listUploads(), []);
  });

  t.test('an upload that broke off goes on by its name, and sends only what is missing', async (t) => {
    const { store, reopen, receivedBytes } = await make(t);
    const upload = await brokenUpload(t, store);
    t.match(await store.listUploads(), [{ key: 'large', uploadId: upload.uploadId }]);
    const before = receivedBytes();
    const progress: number[] = [];
    const stored = await (await reopen()).put('large', bytesOf(LARGE_BYTES), {
      sizeBytes: LARGE_BYTES,
      upload,
      onUpload: () => void t.fail('it is not begun anew'),
      onProgress: (doneBytes) => progress.push(doneBytes),
    });
    t.ok(
      receivedBytes() - before < LARGE_BYTES - 8 * MIB + OVERHEAD_BYTES,
      'the first part was not sent again',
    );
    t.equal(stored.sha256, await digestOf(bytesOf(LARGE_BYTES)));
    t.equal(await digestOf(await store.get('large')), stored.sha256);
    t.equal(progress.at(-1), LARGE_BYTES);
    t.same(await store.listUploads(), []);
  });

  t.test('parts of other bytes than those given now are sent again', async (t) => {
    const { store } = await make(t);
    const upload = await brokenUpload(t, store);
    const stored = await store.put('large', bytesOf(LARGE_BYTES, 7), { sizeBytes: LARGE_BYTES, upload });
    t.equal(stored.sha256, await digestOf(bytesOf(LARGE_BYTES, 7)));
    t.equal(await digestOf(await store.get('large')), stored.sha256);
  });

  t.test('an upload that is gone is begun anew', async (t) => {
    const { store } = await make(t);
    const upload = await brokenUpload(t, store);
    await store.abortUpload(upload);
    const begun: UploadName[] = [];
    const stored = await store.put('large', bytesOf(LARGE_BYTES), {
      upload,
      onUpload: (name) => void begun.push(name),
    });
    t.equal(begun.length, 1);
    t.not(begun[0]?.uploadId, upload.uploadId);
    t.equal(stored.sizeBytes, LARGE_BYTES);
  });

  t.test('an upload goes on only under its own key', async (t) => {
    const { store } = await make(t);
    const upload = { key: 'other', uploadId: 'x', partBytes: 8 * MIB };
    await rejectsWith(t, 'INVALID_ARGUMENT', () => store.put('large', bytesOf(1), { upload }));
  });
}

function leftUploadTests(t: Test, make: MakeStore): void {
  t.test('a put that nobody can take up leaves no parts behind', async (t) => {
    const { store } = await make(t);
    await rejectsWith(t, 'UNAVAILABLE', () => store.put('large', brokenSource(), { sizeBytes: LARGE_BYTES }));
    t.same(await store.listUploads(), []);
    t.equal(await store.head('large'), null);
  });

  t.test('uploads that were left are listed by prefix and aborted, again and again', async (t) => {
    const { store } = await make(t);
    const upload = await brokenUpload(t, store);
    t.same(await store.listUploads('none'), []);
    const [left] = await store.listUploads('lar');
    t.match(left, { key: 'large', uploadId: upload.uploadId });
    t.ok(Number.isSafeInteger(left?.startedAtMs));
    await store.abortUpload(upload);
    await store.abortUpload(upload);
    t.same(await store.listUploads(), []);
  });
}

/** Leaves an upload of `large` whose source broke off after two parts. */
async function brokenUpload(t: Test, store: ObjectStore): Promise<UploadName> {
  let upload: UploadName | null = null;
  await rejectsWith(t, 'UNAVAILABLE', () =>
    store.put('large', brokenSource(), {
      sizeBytes: LARGE_BYTES,
      onUpload: (name) => {
        upload = name;
      },
    }),
  );
  return upload as unknown as UploadName;
}

/** The first 18 MiB of what `bytesOf(LARGE_BYTES)` gives, then a failure. */
async function* brokenSource(): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const piece of bytesOf(LARGE_BYTES)) {
    yield piece;
    total += piece.length;
    if (total > 18 * MIB) throw new AgentError('UNAVAILABLE', 'the source broke off');
  }
}

/** Bytes that are the same each time, in pieces of an odd size, and differ by `seed`. */
export async function* bytesOf(length: number, seed = 0): AsyncGenerator<Uint8Array> {
  const PIECE_BYTES = 777_777;
  for (let at = 0; at < length; at += PIECE_BYTES)
    yield pieceAt(at, Math.min(PIECE_BYTES, length - at), seed);
}

/** The same bytes, as a head and the rest. */
export function piecesOf(length: number): Uint8Array[] {
  const headBytes = Math.min(length, 44);
  return [pieceAt(0, headBytes, 0), pieceAt(headBytes, length - headBytes, 0)];
}

function pieceAt(at: number, length: number, seed: number): Uint8Array {
  const piece = new Uint8Array(length);
  for (let i = 0; i < length; i++) piece[i] = (at + i) * 31 + ((at + i) >> 11) + seed;
  return piece;
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(piece);
  return Buffer.concat(pieces);
}

export async function digestOf(source: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of source) hash.update(piece);
  return hash.digest('hex');
}

async function rejectsWith(
  t: Test,
  code: ErrorCode,
  act: () => Promise<unknown>,
  what?: string,
): Promise<void> {
  await t.rejects(act, { name: 'AgentError', code }, what ?? code);
}

async function rejectsWithAny(t: Test, codes: ErrorCode[], act: () => Promise<unknown>): Promise<void> {
  const error = await act().then(
    () => null,
    (thrown: unknown) => thrown,
  );
  t.ok(error instanceof AgentError && codes.includes(error.code), codes.join(' or '));
}
