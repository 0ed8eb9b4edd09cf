/** Streams with holes against a fake daemon: read as bytes, read as segments, and written. */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { encodeFrame, type Frame, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import type { LibvirtStream, StreamSegment } from '../../src/rpc/stream.ts';
import { XdrReader } from '../../src/xdr/reader.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';

type VolumeProcedure = 'storageVolDownload' | 'storageVolUpload';

const SPARSE = 1;
const VOLUME = { pool: 'p', name: 'v', key: '/p/v' };

interface Opened {
  connection: Connection;
  stream: LibvirtStream;
  peer: Peer;
  call: Frame;
}

async function open(t: Test, procedure: VolumeProcedure, flags = SPARSE): Promise<Opened> {
  const daemon = await FakeDaemon.start();
  daemon.on(procedure, (peer, call) => peer.reply(call));
  const connection = await connect('test:///default', { socketPath: daemon.socketPath, reconnect: false });
  t.teardown(async () => {
    await connection.close();
    await daemon[Symbol.asyncDispose]();
  });
  const { stream } = await connection.openStream(procedure, { vol: VOLUME, offset: 0, length: 0, flags });
  const peer = daemon.peers.at(-1)!;
  return { connection, stream, peer, call: peer.received.at(-1)! };
}

/** Sends strings as data and numbers as holes. */
function send({ peer, call }: Opened, ...parts: (string | number | bigint)[]): void {
  peer.socket.write(Buffer.concat(parts.map((part) => partFrame(call, part))));
}

function partFrame(call: Frame, part: string | number | bigint): Buffer {
  const status = MessageStatus.continue;
  if (typeof part === 'string')
    return encodeFrame({ ...call, type: MessageType.stream, status }, (w) => w.raw(Buffer.from(part)));
  return encodeFrame({ ...call, type: MessageType.streamHole, status }, (w) => {
    w.hyper(part);
    w.uint(0);
  });
}

/** Confirms the client's end when it comes. */
async function confirmEnd(opened: Opened): Promise<void> {
  const { peer, call } = opened;
  await until(() => sentBy(opened).at(-1)?.status === MessageStatus.ok, 'the client has finished');
  peer.socket.write(encodeFrame({ ...call, type: MessageType.stream, status: MessageStatus.ok }));
}

function sentBy({ peer }: Opened): Frame[] {
  const types: number[] = [MessageType.stream, MessageType.streamHole];
  return peer.received.filter((frame) => types.includes(frame.type));
}

/** What the client has sent: text for data, numbers for holes. */
function partsOf(opened: Opened): (string | bigint)[] {
  return sentBy(opened)
    .filter(({ status }) => status === MessageStatus.continue)
    .map(({ type, body }) =>
      type === MessageType.streamHole ? new XdrReader(body).hyper() : body.toString(),
    );
}

async function segmentsOf(stream: LibvirtStream): Promise<(string | bigint)[]> {
  const parts: (string | bigint)[] = [];
  for await (const segment of stream.segments()) parts.push(textOf(segment));
  return parts;
}

async function consumedOf(stream: LibvirtStream): Promise<(string | bigint)[]> {
  const parts: (string | bigint)[] = [];
  await stream.consume((segment) => parts.push(textOf(segment)));
  return parts;
}

async function bytesOf(stream: LibvirtStream): Promise<string[]> {
  return [Buffer.concat(await stream.toArray()).toString('latin1')];
}

function textOf(segment: StreamSegment): string | bigint {
  return 'hole' in segment ? segment.hole : segment.data.toString();
}

t.test('a reader of bytes gets zeros for a hole', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  t.ok(opened.stream.isSparse);
  send(opened, 'ab', 3, 'c', 600_000, '');
  const chunks = opened.stream.toArray();
  await confirmEnd(opened);
  const bytes = Buffer.concat(await chunks);
  t.equal(bytes.length, 600_006);
  t.equal(bytes.subarray(0, 6).toString('latin1'), 'ab\0\0\0c');
  t.ok(bytes.subarray(6).every((byte) => byte === 0));
});

t.test('a reader of segments gets data and holes in order', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  send(opened, 7, 'ab', 2n ** 62n, 'c', 0, 5, '');
  const segments = segmentsOf(opened.stream);
  await confirmEnd(opened);
  t.same(await segments, [7n, 'ab', 2n ** 62n, 'c', 5n]);
  await until(() => opened.peer.socket.destroyed, 'its connection is closed');
});

t.test('what comes before anybody reads is lost to neither kind of reader', async (t) => {
  for (const read of [segmentsOf, consumedOf, bytesOf]) {
    const opened = await open(t, 'storageVolDownload');
    send(opened, 'ab', 3, 'c', '');
    await confirmEnd(opened);
    await opened.connection.getLibVersion();
    t.same(await read(opened.stream), read === bytesOf ? ['ab\0\0\0c'] : ['ab', 3n, 'c'], read.name);
  }
});

t.test('a hole without end is read with back-pressure, and does not stop the event loop', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  send(opened, 2n ** 62n, 'after');
  await once(opened.stream, 'readable');
  let turns = 0;
  for (; turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve));
  t.ok(opened.stream.readableLength <= 1_048_576, 'zeros do not pile up');
  let zeros = 0;
  opened.stream.on('data', (chunk: Buffer) => {
    zeros += chunk.length;
  });
  await until(() => zeros > 16_777_216, 'zeros flow, and timers run meanwhile');
  opened.stream.destroy();
  await until(() => opened.peer.socket.destroyed, 'and it can be aborted');
  t.match(sentBy(opened), [{ status: MessageStatus.error }]);
});

t.test('a slow reader of segments stops the daemon from sending', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  const text = 'x'.repeat(200_000);
  for (let index = 0; index < 64; index++) send(opened, text, 1);
  const segments = opened.stream.segments()[Symbol.asyncIterator]();
  await segments.next();
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  t.ok(opened.peer.socket.writableLength > 0, 'the daemon cannot get rid of its data');
  let bytes = 0;
  let holes = 0;
  send(opened, '');
  void confirmEnd(opened);
  for (let next = await segments.next(); next.done !== true; next = await segments.next()) {
    if ('hole' in next.value) holes++;
    else bytes += next.value.data.length;
  }
  t.ok(bytes > 63 * 200_000 && bytes < 64 * 200_000, 'all but the first piece has come');
  t.equal(holes, 64);
});

t.test('leaving the segments before their end aborts the stream', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  send(opened, 'a', 5, 'b');
  for await (const segment of opened.stream.segments()) {
    t.equal(textOf(segment), 'a');
    break;
  }
  await until(() => opened.peer.socket.destroyed, 'the connection is closed');
  t.match(sentBy(opened), [{ status: MessageStatus.error }]);
});

t.test('the reader of segments is told how the stream fails', async (t) => {
  const refused = await open(t, 'storageVolDownload');
  send(refused, 'a');
  const segments = segmentsOf(refused.stream);
  refused.peer.refuse(refused.call, 38, 'cannot read', MessageType.stream);
  t.match(await failureOf(segments), { name: 'LibvirtError', message: 'cannot read' });
  const lost = await open(t, 'storageVolDownload');
  const more = segmentsOf(lost.stream);
  lost.peer.socket.destroy();
  t.equal(await kindOf(more), 'closed');
});

t.test('a stream is read as bytes or as segments, not both', async (t) => {
  const opened = await open(t, 'storageVolDownload');
  opened.stream.segments();
  t.throws(() => opened.stream.segments(), { name: 'LibvirtUsageError' });
  const other = await open(t, 'storageVolDownload');
  other.stream.on('data', () => {});
  t.throws(() => other.stream.segments(), { name: 'LibvirtUsageError' });
});

t.test(
  'a hole in a stream that was opened without holes, and a hole that is none, break the protocol',
  async (t) => {
    const plain = await open(t, 'storageVolDownload', 0);
    t.notOk(plain.stream.isSparse);
    const first = once(plain.stream, 'error');
    send(plain, 5);
    t.match(await first, [{ kind: 'protocol' }]);
    const sparse = await open(t, 'storageVolDownload');
    const second = once(sparse.stream, 'error');
    send(sparse, -5);
    t.match(await second, [{ kind: 'protocol' }]);
  },
);

t.test('holes are written between the data before and after them', async (t) => {
  const opened = await open(t, 'storageVolUpload');
  opened.stream.write('ab');
  const first = opened.stream.writeHole(4_096);
  opened.stream.write('c');
  opened.stream.write('d');
  const second = opened.stream.writeHole(2n ** 62n);
  opened.stream.end();
  await Promise.all([first, second]);
  await confirmEnd(opened);
  await once(opened.stream, 'finish');
  const parts = partsOf(opened);
  t.same(parts.filter((part) => typeof part === 'bigint').map(String), ['4096', String(2n ** 62n)]);
  t.equal(parts.join(' ').replace('c d', 'cd'), `ab 4096 cd ${2n ** 62n}`);
});

t.test('a hole that cannot be written is refused before anything is sent', async (t) => {
  const opened = await open(t, 'storageVolUpload');
  for (const length of [0, -1, 1.5, 2 ** 60, 2n ** 63n, Number.NaN, '5' as unknown as number])
    t.match(await failureOf(opened.stream.writeHole(length)), { name: 'LibvirtUsageError' }, String(length));
  const plain = await open(t, 'storageVolUpload', 0);
  t.match(await failureOf(plain.stream.writeHole(5)), { name: 'LibvirtUsageError' });
  t.same(partsOf(opened), []);
  t.same(partsOf(plain), []);
});

t.test('a daemon that refuses a hole, which it does with a reply, fails the stream', async (t) => {
  const opened = await open(t, 'storageVolUpload');
  const failed = once(opened.stream, 'error');
  await opened.stream.writeHole(5);
  await until(() => partsOf(opened).length === 1, 'the hole has come');
  opened.peer.refuse(opened.call, 38, 'cannot seek', MessageType.reply);
  t.match(await failed, [{ name: 'LibvirtError', message: 'cannot seek' }]);
});
