/** Streams against a fake daemon: back-pressure, end of data, finish, abort and errors. */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { encodeFrame, type Frame, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { type LibvirtStream, PACKET_MAX_BYTES } from '../../src/rpc/stream.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';
import { failureOf } from '../support/outcome.ts';
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
  return encodeFrame({ ...call, type: MessageType.stream, status }, (w) => w.raw(Buffer.from(bytes)));
}

function streamFrames({ peer }: Opened): Frame[] {
  return peer.received.filter((frame) => frame.type === MessageType.stream);
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

t.test('what is written goes out in packets of the largest allowed size', async (t) => {
  const opened = await open(t);
  opened.stream.write(Buffer.alloc(PACKET_MAX_BYTES + 1, 'x'));
  opened.stream.end();
  await until(() => streamFrames(opened).length === 3, 'two packets and the end have come');
  t.match(
    streamFrames(opened).map((frame) => [frame.status, frame.body.length]),
    [
      [MessageStatus.continue, PACKET_MAX_BYTES],
      [MessageStatus.continue, 1],
      [MessageStatus.ok, 0],
    ],
  );
  t.notOk(opened.stream.writableFinished, 'not finished before the daemon says so');
  opened.peer.socket.write(packet(opened, MessageStatus.ok));
  await once(opened.stream, 'finish');
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
