/** Streams against a fake daemon: back-pressure, end of data, finish, abort and errors. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { encodeFrame, type Frame, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { PACKET_MAX_BYTES } from '../../src/rpc/packets.ts';
import type { LibvirtStream } from '../../src/rpc/stream.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';

const CONSOLE_ARGS = {
  dom: { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 },
  dev_name: null,
  flags: 0,
};

interface Opened {
  daemon: FakeDaemon;
  connection: Connection;
  stream: LibvirtStream;
  peer: Peer;
  call: Frame;
}

async function open(t: Test): Promise<Opened> {
  const daemon = await FakeDaemon.start();
  daemon.on('domainOpenConsole', (peer, call) => peer.reply(call));
  const connection = await connect('test:///default', { socketPath: daemon.socketPath, reconnect: false });
  t.teardown(async () => {
    await connection.close();
    await daemon[Symbol.asyncDispose]();
  });
  const { stream } = await connection.openStream('domainOpenConsole', CONSOLE_ARGS);
  const peer = daemon.peers.at(-1)!;
  return { daemon, connection, stream, peer, call: peer.received.at(-1)! };
}

function packet({ call }: Opened, status: number, bytes: string | Buffer = ''): Buffer {
  return packetOf(call, status, bytes);
}

function packetOf(call: Frame, status: number, bytes: string | Buffer = ''): Buffer {
  return encodeFrame({ ...call, type: MessageType.stream, status }, (w) => w.raw(Buffer.from(bytes)));
}

/** The bytes that have come. Their packets come in pieces. */
function dataOf(opened: Opened): Buffer {
  const data = streamFrames(opened).filter(({ status }) => status === MessageStatus.continue);
  return Buffer.concat(data.map(({ body }) => body));
}

function streamFrames({ peer }: Opened): Frame[] {
  return peer.received.filter((frame) => frame.type === MessageType.stream);
}

/** Confirms the client's end when it comes. */
async function confirmEnd(opened: Opened): Promise<void> {
  await until(() => streamFrames(opened).at(-1)?.status === MessageStatus.ok, 'the client has finished');
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
}

t.test('data comes in order, an empty packet ends it, and the end is confirmed both ways', async (t) => {
  const opened = await open(t);
  opened.peer.socket.write(
    Buffer.concat([packet(opened, 2, 'one '), packet(opened, 2, 'two'), packet(opened, 2)]),
  );
  const chunks: Buffer[] = [];
  opened.stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await until(() => streamFrames(opened).length === 1, 'the client has finished, too');
  t.match(streamFrames(opened), [{ status: MessageStatus.ok, serial: opened.call.serial, procedure: 201 }]);
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
  await once(opened.stream, 'close');
  t.equal(Buffer.concat(chunks).toString(), 'one two');
});

t.test('what is written goes out as it is, and the end is confirmed by the daemon', async (t) => {
  const opened = await open(t);
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index & 0xff));
  opened.stream.write(bytes);
  opened.stream.write(Buffer.alloc(0));
  opened.stream.write('text');
  opened.stream.end();
  await until(() => streamFrames(opened).at(-1)?.status === MessageStatus.ok, 'the end has come');
  t.ok(dataOf(opened).equals(Buffer.concat([bytes, Buffer.from('text')])));
  t.notOk(
    streamFrames(opened).some(({ status, body }) => status === MessageStatus.continue && body.length === 0),
    'no packet says before the end that the data ends',
  );
  t.notOk(opened.stream.writableFinished, 'not finished before the daemon says so');
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
  await once(opened.stream, 'finish');
});

t.test('many small writes go out in few packets', async (t) => {
  const opened = await open(t);
  opened.stream.cork();
  for (let index = 0; index < 1_000; index++) opened.stream.write(`${index};`);
  opened.stream.uncork();
  await until(() => dataOf(opened).toString().endsWith(';999;'), 'all has come');
  t.equal(streamFrames(opened).length, 1);
});

t.test('a stream that is only written, or not even that, ends with the daemon’s word', async (t) => {
  for (const text of ['some', '']) {
    const opened = await open(t);
    opened.stream.end(text);
    await until(() => streamFrames(opened).at(-1)?.status === MessageStatus.ok, 'the end has come');
    opened.peer.socket.write(packet(opened, MessageStatus.ok));
    await once(opened.stream, 'close');
    await until(() => opened.peer.socket.destroyed, 'its connection is closed, though nobody has read it');
    t.equal(dataOf(opened).toString(), text);
  }
});

t.test('a stream without data ends for its reader', async (t) => {
  const opened = await open(t);
  opened.peer.socket.write(packet(opened, MessageStatus.continue));
  const chunks = opened.stream.toArray();
  await until(() => streamFrames(opened).length === 1, 'the client has finished, too');
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
  t.same(await chunks, []);
  await until(() => opened.stream.closed, 'it is closed');
  t.notOk(
    streamFrames(opened).some(({ status }) => status === MessageStatus.error),
    'a reader that leaves at the end aborts nothing',
  );
});

t.test('data that comes before the reply to the call that opens the stream is not lost', async (t) => {
  const { daemon, connection } = await open(t);
  daemon.on('domainOpenConsole', (peer, call) => {
    peer.socket.write(packetOf(call, MessageStatus.continue, 'early'));
    peer.reply(call);
  });
  const { stream } = await connection.openStream('domainOpenConsole', CONSOLE_ARGS);
  const [chunk] = await once(stream, 'data');
  t.equal(chunk.toString(), 'early');
});

t.test('data that fills all buffers before the reply does not keep the reply from being read', async (t) => {
  const { daemon, connection } = await open(t);
  const early = randomBytes(4 * PACKET_MAX_BYTES);
  daemon.on('domainOpenConsole', (peer, call) => {
    for (let sent = 0; sent < early.length; sent += PACKET_MAX_BYTES) {
      const piece = early.subarray(sent, sent + PACKET_MAX_BYTES);
      peer.socket.write(packetOf(call, MessageStatus.continue, piece));
    }
    peer.reply(call);
  });
  const { stream } = await connection.openStream('domainOpenConsole', CONSOLE_ARGS);
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await until(() => Buffer.concat(chunks).length >= early.length, 'all of it has come');
  t.ok(Buffer.concat(chunks).equals(early));
});

t.test('data that ends before the reply to the call that opens the stream is confirmed', async (t) => {
  const { daemon, connection } = await open(t);
  daemon.on('domainOpenConsole', (peer, call) => {
    peer.socket.write(packetOf(call, MessageStatus.continue, 'all'));
    peer.socket.write(packetOf(call, MessageStatus.continue, ''));
    peer.reply(call);
  });
  const { stream } = await connection.openStream('domainOpenConsole', CONSOLE_ARGS);
  const peer = daemon.peers.at(-1)!;
  const chunks = stream.toArray();
  const frame = () => peer.received.find(({ type }) => type === MessageType.stream);
  await until(() => frame()?.status === MessageStatus.ok, 'the client has finished, too');
  peer.socket.write(packetOf(frame()!, MessageStatus.ok, ''));
  t.equal(Buffer.concat(await chunks).toString(), 'all');
});

t.test('a refusal to finish is the error of the stream', async (t) => {
  const opened = await open(t);
  const broken = once(opened.stream, 'error');
  opened.stream.end('x');
  await until(() => streamFrames(opened).at(-1)?.status === MessageStatus.ok, 'the end has come');
  opened.peer.refuse(opened.call, 38, 'disk full', MessageType.stream);
  t.match(await broken, [{ name: 'LibvirtError', message: 'disk full' }]);
  await until(() => opened.peer.socket.destroyed, 'its connection is closed');
});

t.test('what is written once the daemon has no more data is refused', async (t) => {
  const opened = await open(t);
  opened.peer.socket.write(packet(opened, MessageStatus.continue));
  await until(() => streamFrames(opened).length === 1, 'the client has finished, too');
  const failed = once(opened.stream, 'error');
  opened.stream.write('x');
  t.match(await failed, [{ code: 'ERR_STREAM_WRITE_AFTER_END' }]);
});

t.test('a daemon that confirms an end that was not sent breaks the protocol', async (t) => {
  const opened = await open(t);
  const broken = once(opened.stream, 'error');
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
  t.match(await broken, [{ kind: 'protocol' }]);
});

t.test('a reader that does not read stops the daemon from sending', async (t) => {
  const opened = await open(t);
  const bytes = packet(opened, MessageStatus.continue, Buffer.alloc(PACKET_MAX_BYTES, 'x'));
  const packets = 64;
  for (let index = 0; index < packets; index++) opened.peer.socket.write(bytes);
  for (let turn = 0; turn < 500; turn++) await opened.connection.getLibVersion();
  t.ok(opened.peer.socket.writableLength > 0, 'the daemon cannot get rid of its data');
  t.ok(opened.stream.readableLength < packets * PACKET_MAX_BYTES, 'and it does not pile up here');
  let received = 0;
  opened.stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await until(() => received === packets * PACKET_MAX_BYTES, 'all of it comes once it is read');
});

t.test('destroying a stream aborts it and closes its connection', async (t) => {
  const opened = await open(t);
  opened.stream.destroy();
  await until(() => opened.peer.socket.destroyed, 'the connection is closed');
  t.match(streamFrames(opened), [{ status: MessageStatus.error }]);
  t.equal(await opened.connection.getLibVersion(), 9_000_000);
});

t.test('an error on the stream, and the loss of the connection, destroy it with that error', async (t) => {
  const first = await open(t);
  const broken = once(first.stream, 'error');
  first.peer.refuse(first.call, 38, 'cannot read', MessageType.stream);
  t.match(await broken, [{ name: 'LibvirtError', message: 'cannot read', procedure: 'domainOpenConsole' }]);
  const second = await open(t);
  const lost = once(second.stream, 'error');
  second.daemon.dropAll();
  t.match(await lost, [{ name: 'LibvirtTransportError', kind: 'closed' }]);
});

t.test('a refused stream leaves no connection behind', async (t) => {
  const { daemon, connection } = await open(t);
  daemon.on('domainOpenConsole', (peer, call) => peer.refuse(call, 55, 'domain is not running'));
  t.match(await failureOf(connection.openStream('domainOpenConsole', CONSOLE_ARGS)), {
    codeName: 'VIR_ERR_OPERATION_INVALID',
  });
  await until(() => daemon.peers.at(-1)?.socket.destroyed === true, 'its connection is closed');
});

t.test('a stream that does not open in time is given up', async (t) => {
  const { daemon, connection } = await open(t);
  daemon.on('domainOpenConsole', () => {});
  const error = await failureOf(connection.openStream('domainOpenConsole', CONSOLE_ARGS, { timeoutMs: 50 }));
  t.match(error, { kind: 'timeout' });
  await until(() => daemon.peers.at(-1)?.socket.destroyed === true, 'its connection is closed');
});

t.test(
  'a function that consumes a stream has each part until it is done with it, and then all has come',
  async (t) => {
    const opened = await open(t);
    const bytes = randomBytes(32 * PACKET_MAX_BYTES);
    for (let at = 0; at < bytes.length; at += PACKET_MAX_BYTES)
      opened.peer.socket.write(packet(opened, 2, bytes.subarray(at, at + PACKET_MAX_BYTES)));
    opened.peer.socket.write(packet(opened, 2));
    const seen: Buffer[] = [];
    let busy = 0;
    const consumed = opened.stream.consume(async (segment) => {
      if (!('data' in segment)) throw new Error('a hole');
      t.equal(++busy, 1, 'one part at a time');
      const before = Buffer.from(segment.data);
      for (let turns = 0; turns < seen.length % 5; turns++)
        await new Promise((resolve) => setImmediate(resolve));
      t.ok(before.equals(segment.data), 'what is lent does not change');
      seen.push(before);
      busy--;
    });
    await confirmEnd(opened);
    await consumed;
    t.ok(Buffer.concat(seen).equals(bytes));
    await until(() => opened.peer.socket.destroyed, 'its connection is closed');
  },
);

t.test('a function that consumes a stream is given what has come before it was', async (t) => {
  const opened = await open(t);
  opened.peer.socket.write(Buffer.concat([packet(opened, 2, 'early'), packet(opened, 2)]));
  await confirmEnd(opened);
  const parts: string[] = [];
  await opened.stream.consume((segment) => parts.push('data' in segment ? segment.data.toString() : ''));
  t.same(parts, ['early']);
});

t.test('what a consuming function throws destroys the stream, and is thrown', async (t) => {
  for (const take of [
    () => {
      throw new Error('no room');
    },
    async () => {
      throw new Error('no room');
    },
  ]) {
    const opened = await open(t);
    opened.peer.socket.write(packet(opened, 2, 'some'));
    t.match(await failureOf(opened.stream.consume(take)), { message: 'no room' });
    await until(() => opened.peer.socket.destroyed, 'its connection is closed');
  }
});

t.test('whoever consumes a stream is told how it fails', async (t) => {
  const opened = await open(t);
  const consumed = opened.stream.consume(() => {});
  opened.peer.socket.destroy();
  t.equal(await kindOf(consumed), 'closed');
  t.equal(await kindOf(opened.stream.consume(() => {})), 'closed', 'and so is whoever comes later');

  const destroyed = await open(t);
  const waiting = destroyed.stream.consume(() => {});
  destroyed.stream.destroy();
  t.equal(await kindOf(waiting), 'closed');
});

class ForeignPromise {
  readonly #start: (done: () => void) => void;

  constructor(start: (done: () => void) => void) {
    this.#start = start;
  }

  // biome-ignore lint/suspicious/noThenProperty: that is what makes it a promise
  then(done: () => void): void {
    this.#start(done);
  }
}

t.test('a promise that is not Node’s own is waited for as well', async (t) => {
  const opened = await open(t);
  const parts: string[] = [];
  let settle = () => {};
  const consumed = opened.stream.consume((segment) => {
    if ('data' in segment) parts.push(segment.data.toString());
    return new ForeignPromise((done) => {
      settle = done;
    });
  });
  opened.peer.socket.write(
    Buffer.concat([packet(opened, 2, 'one'), packet(opened, 2, 'two'), packet(opened, 2)]),
  );
  await until(() => parts.length > 0, 'the first part is lent');
  await opened.connection.getLibVersion();
  t.same(parts, ['one']);
  settle();
  await until(() => parts.length > 1, 'the second part is lent');
  settle();
  await confirmEnd(opened);
  await consumed;
});

t.test('a stream is consumed by one function alone', async (t) => {
  const opened = await open(t);
  t.match(await failureOf(opened.stream.consume('none' as never)), { name: 'LibvirtUsageError' });
  const consumed = opened.stream.consume(() => {});
  t.match(await failureOf(opened.stream.consume(() => {})), { name: 'LibvirtUsageError' });
  opened.stream.destroy();
  t.equal(await kindOf(consumed), 'closed');
});
