/** Daemons that get the frames themselves wrong. */
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { PROGRAMS } from '../../src/protocol/schema.gen.ts';
import { Channel } from '../../src/rpc/channel.ts';
import { FRAME_MAX_BYTES, FrameParser, MessageType } from '../../src/rpc/framing.ts';
import { KEEPALIVE_PROGRAM, PING, PONG } from '../../src/rpc/keepalive.ts';
import { XdrError } from '../../src/xdr/reader.ts';
import { MemoryDaemon } from '../support/memory-daemon.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { bytesHeldBy } from './memory.ts';
import { connected, rawFrame, shortPeer, words } from './setup.ts';

const MIB = 1_048_576;
const REPLY = { program: PROGRAMS.remote, procedure: 157, type: MessageType.reply, serial: 1, status: 0 };
const PING_FRAME = rawFrame({ ...REPLY, program: KEEPALIVE_PROGRAM, procedure: PING, type: 2, serial: 0 });

/** Pings in a flood: enough that their answers would be felt if they were all kept. */
const FLOOD_PINGS = 100_000;

/** A channel that is ready to receive, and its daemon. */
async function inMemory(): Promise<{ daemon: MemoryDaemon; channel: Channel }> {
  const daemon = new MemoryDaemon();
  const { signal } = new AbortController();
  const channel = await Channel.connect({ transport: daemon.transport, keepalive: false, signal });
  await turn();
  return { daemon, channel };
}

t.test('a frame that says it has 1 GiB ends the connection before anything of it is awaited', async (t) => {
  const session = await connected(t);
  const peer = await shortPeer(session);
  session.daemon.on('connectGetVersion', () => peer.socket.write(words(1_073_741_824)));
  const error = await failureOf(session.connection.getVersion());
  t.match(error, { kind: 'protocol', message: /1073741824 bytes/, cause: XdrError });
  await until(() => peer.socket.destroyed, 'the socket is closed');
});

t.test('the longest frame that is allowed is not set aside before it has come', async (t) => {
  const parsers = Array.from({ length: 50 }, () => new FrameParser());
  const start = Buffer.concat([words(FRAME_MAX_BYTES), rawFrame(REPLY).subarray(4), Buffer.alloc(100)]);
  const held = await bytesHeldBy(() => {
    const frames = parsers.flatMap((parser) => parser.push(start));
    t.same(frames, []);
    return parsers;
  });
  t.ok(held < MIB, `50 parsers hold ${held} bytes`);
});

t.test('a frame that comes byte by byte takes no more memory than its bytes', async (t) => {
  const parser = new FrameParser();
  const body = MIB;
  parser.push(Buffer.concat([words(28 + body), rawFrame(REPLY).subarray(4)]));
  const held = await bytesHeldBy(() => {
    for (let left = body - 1; left > 0; left--) parser.push(Buffer.of(0));
    return parser;
  });
  t.ok(held >= body && held < 2 * body, `${held} bytes are held for a body of ${body}`);
  t.match(parser.push(Buffer.of(7)), [{ serial: 1 }]);
});

t.test(
  'half a frame and then silence: the call is given up, and keepalive ends the connection',
  async (t) => {
    const session = await connected(t, { keepalive: { intervalMs: 20, count: 2 } });
    const peer = await shortPeer(session);
    session.daemon.isSilent = true;
    session.daemon.on('connectGetVersion', (_peer, call) =>
      peer.socket.write(rawFrame(call).subarray(0, 13)),
    );
    t.equal(await kindOf(session.connection.getVersion({ timeoutMs: 1 })), 'timeout');
    t.equal(await kindOf(session.connection.getVersion()), 'keepalive');
  },
);

t.test('a frame of another program version ends the connection', async (t) => {
  const session = await connected(t);
  const peer = await shortPeer(session);
  session.daemon.on('connectGetVersion', (_peer, call) =>
    peer.socket.write(rawFrame({ ...call, type: 1 }, Buffer.alloc(8), 2)),
  );
  const error = await failureOf(session.connection.getVersion());
  t.match(error, { kind: 'protocol', message: /program version 2/ });
});

t.test('a frame of a type that does not exist, or that only clients send, ends the connection', async (t) => {
  for (const type of [MessageType.call, 4, 7, -1]) {
    const session = await connected(t);
    session.daemon.on('connectGetVersion', (peer, call) => peer.socket.write(rawFrame({ ...call, type })));
    t.equal(await kindOf(session.connection.getVersion()), 'protocol', `type ${type}`);
  }
});

t.test('a flood of pings is answered no faster than the daemon takes the answers', async (t) => {
  const { daemon, channel } = await inMemory();
  daemon.hold();
  for (let left = FLOOD_PINGS; left > 0; left -= 1_000)
    daemon.send(Buffer.concat(Array<Buffer>(1_000).fill(PING_FRAME)));
  t.ok(daemon.writableLength < 2 * daemon.writableHighWaterMark, `${daemon.writableLength} bytes wait`);
  daemon.release();
  await until(() => daemon.writableLength === 0, 'what was written has been taken');
  daemon.received = [];
  daemon.send(PING_FRAME);
  await until(() => daemon.received.length === 1, 'the next ping is answered');
  t.match(daemon.received, [{ program: KEEPALIVE_PROGRAM, procedure: PONG }]);
  channel.close();
});

t.test('a daemon that says everything before it is asked has its connection ended', async (t) => {
  const { daemon, channel } = await inMemory();
  daemon.send(rawFrame(REPLY, Buffer.alloc(8)));
  t.ok(channel.isClosed);
  t.equal(await kindOf(channel.call('connectGetLibVersion', undefined, {})), 'protocol');
});
