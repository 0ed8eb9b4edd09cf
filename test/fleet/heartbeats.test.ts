/** That heartbeats are found in what an agent sends, however it comes in pieces. */
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import { FrameTap, RecordTap } from '../../fleet/wire/heartbeats.ts';

const HEAD = 'GET /v1/agent HTTP/1.1\r\nupgrade: websocket\r\n\r\n';
const MASK = [1, 2, 3, 4];

/** A frame of a client. @see RFC 6455, 5.2 */
function frame(opcode: number, text: string): Buffer {
  const payload = Buffer.from(text).map((byte, at) => byte ^ MASK[at % 4]!);
  const { length } = payload;
  const size = length < 126 ? [0x80 | length] : [0x80 | 126, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([0x80 | opcode, ...size, ...MASK]), payload]);
}

function message(method: string, params: object): Buffer {
  return frame(1, JSON.stringify({ jsonrpc: '2.0', method, params }));
}

/** Lets the bytes through a tap, `step` at a time. */
async function through(tap: FrameTap | RecordTap, data: Buffer, step: number): Promise<Buffer> {
  const pieces = Array.from({ length: Math.ceil(data.length / step) }, (_, n) =>
    data.subarray(n * step, (n + 1) * step),
  );
  const out: Buffer[] = [];
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      out.push(chunk);
      done();
    },
  });
  await pipeline(pieces, tap, sink);
  return Buffer.concat(out);
}

t.test('a heartbeat without news is measured with its frame, and nothing else is', async (t) => {
  const idle = message('heartbeat', { revision: 'abcdefgh.1' });
  const others = [
    message('heartbeat', { revision: 'abcdefgh.1', lastSeq: 3 }),
    message('event', { seq: 1, data: 'x'.repeat(300) }),
    frame(9, ''),
  ];
  const data = Buffer.concat([Buffer.from(HEAD), ...others, idle, ...others, idle]);
  for (const step of [1, 7, data.length]) {
    const seen: number[] = [];
    const passed = await through(new FrameTap((bytes) => seen.push(bytes)), data, step);
    t.same(seen, [idle.length, idle.length]);
    t.ok(passed.equals(data), 'all of it goes on');
  }
});

t.test('records of TLS are measured with their head, but those of pings and the handshake', async (t) => {
  const record = (type: number, bytes: number) =>
    Buffer.concat([Buffer.from([type, 3, 3, bytes >> 8, bytes & 0xff]), Buffer.alloc(bytes)]);
  const data = Buffer.concat([
    record(22, 500),
    record(23, 23),
    record(23, 96),
    record(23, 23),
    record(23, 96),
  ]);
  for (const step of [1, data.length]) {
    const seen: number[] = [];
    await through(new RecordTap((bytes) => seen.push(bytes)), data, step);
    t.same(seen, [101, 101]);
  }
});
