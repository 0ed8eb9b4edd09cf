/** Daemons whose streams never end, end twice, or were never opened. */
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Frame, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { KEEPALIVE_PROGRAM, PONG } from '../../src/rpc/keepalive.ts';
import type { LibvirtStream } from '../../src/rpc/stream.ts';
import type { Peer } from '../support/fake-daemon.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { bytesHeldBy } from './memory.ts';
import { type Connected, connected, rawFrame, words } from './setup.ts';

const { ok, error: failed, continue: data } = MessageStatus;
const ARGS = {
  dom: { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 },
  dev_name: null,
  flags: 0,
};
const NOTHING = Buffer.alloc(0);

/** A stream may hold two buffers of 256 KiB and what one read brings; the rest is what sockets and collectors hold. */
const HELD_MAX_BYTES = 3_000_000;

/** Of each chunk of the socket a single byte is data. */
const CHUNK_BYTES = 65_536;

interface Opened extends Connected {
  stream: LibvirtStream;
  peer: Peer;
  call: Frame;
}

async function open(t: Test): Promise<Opened> {
  const session = await connected(t);
  session.daemon.on('domainOpenConsole', (peer, call) => peer.reply(call));
  const { stream } = await session.connection.openStream('domainOpenConsole', ARGS);
  t.teardown(() => stream.destroy());
  const peer = session.daemon.peers.at(-1)!;
  return { ...session, stream, peer, call: peer.received.at(-1)! };
}

function packet(
  call: Frame,
  status: number,
  body: Uint8Array = NOTHING,
  type: number = MessageType.stream,
): Buffer {
  return rawFrame({ ...call, type, status }, body);
}

/** A connection whose daemon answers the opening of a stream with these frames in one piece. */
async function opening(t: Test, make: (call: Frame) => Buffer[]): Promise<Error> {
  const { daemon, connection } = await connected(t);
  daemon.on('domainOpenConsole', (peer, call) => peer.socket.write(Buffer.concat(make(call))));
  const error = await failureOf(connection.openStream('domainOpenConsole', ARGS));
  await until(() => daemon.peers.at(-1)?.socket.destroyed === true, 'the socket is closed');
  return error;
}

t.test(
  'a stream without end is held back by a reader that does not read, however it is packed',
  async (t) => {
    const opened = await open(t);
    opened.stream.read(0);
    const noise = rawFrame(
      { program: KEEPALIVE_PROGRAM, procedure: PONG, type: MessageType.message, serial: 0, status: 0 },
      Buffer.alloc(CHUNK_BYTES - 100),
    );
    const chunk = Buffer.concat([packet(opened.call, data, Buffer.of(1)), noise]);
    const full = packet(opened.call, data, Buffer.alloc(CHUNK_BYTES, 'x'));
    const held = await bytesHeldBy(async () => {
      for (let sent = 0; sent < 1_000; sent++) {
        if (!opened.peer.socket.write(chunk)) await Promise.race([once(opened.peer.socket, 'drain'), turn()]);
      }
      await until(() => opened.stream.readableLength >= 1_000, 'the small packets have come');
      return opened.stream;
    });
    t.ok(held < HELD_MAX_BYTES, `${held} bytes are held for ${opened.stream.readableLength} that were sent`);
    for (let sent = 0; sent < 100; sent++) opened.peer.socket.write(full);
    for (let calls = 0; calls < 200; calls++) await opened.connection.getLibVersion();
    t.ok(opened.stream.readableLength < 10 * CHUNK_BYTES, `${opened.stream.readableLength} bytes wait`);
    t.ok(opened.peer.socket.writableLength > 0, 'the daemon cannot get rid of the rest');
  },
);

t.test('packets that make no sense end the stream with a typed error', async (t) => {
  const hole = Buffer.alloc(12);
  const lies: [string, (call: Frame) => Buffer[]][] = [
    ['data after the end', (call) => [packet(call, data), packet(call, data, Buffer.of(1))]],
    ['two ends', (call) => [packet(call, data), packet(call, data)]],
    ['a confirmation of an end that has not been', (call) => [packet(call, ok)]],
    ['a status that does not exist', (call) => [packet(call, 7)]],
    ['data of another stream', (call) => [packet({ ...call, serial: call.serial + 1 }, data, Buffer.of(1))]],
    ['data of another procedure', (call) => [packet({ ...call, procedure: 1 }, data, Buffer.of(1))]],
    ['a hole in a stream without holes', (call) => [packet(call, data, hole, MessageType.streamHole)]],
    ['half a hole', (call) => [packet(call, data, words(1), MessageType.streamHole)]],
    ['half an error', (call) => [packet(call, failed, words(1))]],
  ];
  for (const [what, make] of lies) {
    const opened = await open(t);
    const broken = once(opened.stream.resume(), 'error');
    opened.peer.socket.write(Buffer.concat(make(opened.call)));
    t.match(await broken, [{ name: 'LibvirtTransportError', kind: 'protocol' }], what);
    await until(() => opened.peer.socket.destroyed, 'the socket is closed');
  }
});

t.test('a stream that fails before anybody has it is a failure of its opening', async (t) => {
  const error = Buffer.concat([words(38, 10, 1, 4), Buffer.from('oops'), words(2, 0, 0, 0, 0, 0, 0, 0)]);
  const reply = (call: Frame) => rawFrame({ ...call, type: MessageType.reply, status: ok });
  t.match(await opening(t, (call) => [reply(call), packet(call, failed, error)]), { message: 'oops' });
  t.match(await opening(t, (call) => [packet(call, failed, error)]), { message: 'oops' });
  t.match(await opening(t, (call) => [reply(call), packet(call, 7)]), { kind: 'protocol' });
  t.match(await opening(t, () => [words(3)]), { kind: 'protocol' });
});

t.test('a stream without end that is never opened is given up at a limit', async (t) => {
  const flood = (call: Frame) => Array.from({ length: 80 }, () => packet(call, data, Buffer.alloc(262_120)));
  t.match(await opening(t, flood), { name: 'LibvirtTransportError', kind: 'limit' });
  const afterwards = (call: Frame) => [
    ...flood(call),
    rawFrame({ ...call, type: MessageType.reply, status: ok }),
  ];
  t.match(await opening(t, afterwards), { kind: 'limit' }, 'and what comes behind it changes nothing');
});

t.test('a connection that is lost while a stream opens is a failure of its opening', async (t) => {
  const { daemon, connection } = await connected(t);
  daemon.on('domainOpenConsole', () => daemon.dropAll());
  const error = await failureOf(connection.openStream('domainOpenConsole', ARGS));
  t.match(error, { name: 'LibvirtTransportError', kind: 'closed' });
});

t.test('data of a stream on a socket that carries none ends that socket', async (t) => {
  const { daemon, connection } = await connected(t);
  daemon.on('connectGetHostname', (peer, call) => peer.socket.write(packet(call, data, Buffer.of(1))));
  t.match(await failureOf(connection.getHostname()), { kind: 'protocol' });
});

t.test('a hole of eight exabytes takes a reader one piece of zeros at a time', async (t) => {
  const session = await connected(t);
  session.daemon.on('storageVolDownload', (peer, call) => {
    peer.reply(call);
    const length = Buffer.from('7fffffffffffffff00000000', 'hex');
    peer.socket.write(packet(call, data, length, MessageType.streamHole));
  });
  const args = { vol: { pool: 'p', name: 'v', key: 'k' }, offset: 0n, length: 0n, flags: 1 };
  const { stream } = await session.connection.openStream('storageVolDownload', args);
  let pieces = 0;
  for await (const piece of stream) {
    if (!(piece as Buffer).every((byte) => byte === 0)) t.fail('not zero');
    if (++pieces === 10) break;
  }
  t.ok(stream.destroyed, 'and leaving the loop ends it');
});
