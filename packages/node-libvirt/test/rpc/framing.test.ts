import t from 'tap';
import {
  encodeFrame,
  encodeHeader,
  FRAME_MAX_BYTES,
  type Frame,
  FrameParser,
  HEADER_BYTES,
  MessageStatus,
  MessageType,
} from '../../src/rpc/framing.ts';
import { XdrError } from '../../src/xdr/reader.ts';

const REPLY_HEX =
  '00000020' + '20008086' + '00000001' + '00000042' + '00000001' + '00000007' + '00000000' + '00000000';
const REPLY = { program: 0x20008086, procedure: 0x42, type: 1, serial: 7, status: 0 };

/** A reply of type 5 with two descriptors, a body of one word, and the two dummy bytes after it. */
const WITH_DESCRIPTORS_HEX =
  '00000024' +
  '20008086' +
  '00000001' +
  '00000042' +
  '00000005' +
  '00000007' +
  '00000000' +
  '00000002' +
  '0000000a';

function framesOf(stream: Buffer, size: number): Frame[] {
  const parser = new FrameParser();
  const frames: Frame[] = [];
  for (let at = 0; at < stream.length; at += size)
    frames.push(...parser.push(stream.subarray(at, at + size)));
  return frames;
}

function textOf(frames: readonly Frame[]): string[] {
  return frames.map((frame) => frame.body.toString());
}

function bytes(hex: string): Buffer {
  return Buffer.from(hex, 'hex');
}

t.test('a frame is seven words and a body', (t) => {
  t.equal(encodeFrame(REPLY, (w) => w.uint(0)).toString('hex'), REPLY_HEX);
  t.match(new FrameParser().push(bytes(REPLY_HEX)), [{ ...REPLY, body: bytes('00000000') }]);
  t.end();
});

t.test('frames are found however the bytes are cut', (t) => {
  const stream = bytes(`${REPLY_HEX}${WITH_DESCRIPTORS_HEX}0000${REPLY_HEX}`);
  for (let size = 1; size <= stream.length; size++) {
    t.same(
      framesOf(stream, size).map((frame) => [frame.type, frame.body.toString('hex')]),
      [
        [1, '00000000'],
        [5, '0000000a'],
        [1, '00000000'],
      ],
      `pieces of ${size}`,
    );
  }
  t.end();
});

t.test('the dummy bytes of descriptors do not disturb the next frame', (t) => {
  const parser = new FrameParser();
  t.equal(parser.push(bytes(`${WITH_DESCRIPTORS_HEX}00`)).length, 1);
  t.match(parser.push(bytes(`00${REPLY_HEX}`)), [{ type: 1 }]);
  t.end();
});

t.test('what cannot be a frame is refused at once', (t) => {
  const header = REPLY_HEX.slice(8);
  const refused: [string, string][] = [
    ['a length below the header', `0000001b${header}`],
    ['a length over 32 MiB', '02000005'],
    ['an HTTP answer', Buffer.from('HTTP/1.1').toString('hex')],
    ['another program version', REPLY_HEX.replace('2000808600000001', '2000808600000002')],
    ['33 descriptors', WITH_DESCRIPTORS_HEX.replace('0000000000000002', '0000000000000021')],
  ];
  for (const [what, hex] of refused) t.throws(() => new FrameParser().push(bytes(hex)), XdrError, what);
  t.end();
});

t.test('a long body is put together from its chunks, and the frames around it are whole', (t) => {
  const body = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index & 0xff));
  const long = encodeFrame(REPLY, (w) => w.raw(body));
  const stream = Buffer.concat([bytes(REPLY_HEX), long, bytes(REPLY_HEX)]);
  for (const size of [1_000, 65_536, 299_999, stream.length]) {
    const frames = framesOf(stream, size);
    t.same(
      frames.map((frame) => frame.body.length),
      [4, 300_000, 4],
      `pieces of ${size}`,
    );
    t.ok(frames[1]?.body.equals(body));
  }
  t.end();
});

t.test(
  'data of a stream comes in pieces, each under the header of its packet; an empty packet is one piece',
  (t) => {
    const data = { ...REPLY, type: MessageType.stream, status: MessageStatus.continue };
    const packet = encodeFrame(data, (w) => w.raw(Buffer.from('abcdef')));
    const stream = Buffer.concat([packet, encodeFrame(data), packet]);
    t.same(textOf(framesOf(stream, stream.length)), ['abcdef', '', 'abcdef']);
    for (let size = 1; size < stream.length; size++) {
      const frames = framesOf(stream, size);
      t.equal(textOf(frames).join(''), 'abcdefabcdef', `pieces of ${size}`);
      t.equal(frames.filter((frame) => frame.body.length === 0).length, 1, 'one end of data');
      t.ok(frames.every((frame) => frame.serial === data.serial && frame.type === MessageType.stream));
    }
    t.end();
  },
);

t.test('errors on streams, which are decoded, come whole', (t) => {
  const failed = { ...REPLY, type: MessageType.stream, status: MessageStatus.error };
  const stream = encodeFrame(failed, (w) => w.raw(Buffer.from('abcdef')));
  for (let size = 1; size < stream.length; size++) t.same(textOf(framesOf(stream, size)), ['abcdef']);
  t.end();
});

t.test('a frame that says it is long gets no more memory than 32 times what has come of it', (t) => {
  const before = process.memoryUsage().arrayBuffers;
  const parsers = Array.from({ length: 100 }, () => new FrameParser());
  for (const parser of parsers) {
    parser.push(encodeHeader(REPLY, FRAME_MAX_BYTES - HEADER_BYTES));
    parser.push(Buffer.alloc(1_000));
  }
  const grown = process.memoryUsage().arrayBuffers - before;
  t.ok(grown < 100 * 33_000 + 1_000_000, `${grown} bytes for 100 parsers`);
  t.equal(parsers.length, 100);
  t.end();
});

t.test('the longest frame is taken', (t) => {
  const parser = new FrameParser();
  parser.push(encodeHeader(REPLY, FRAME_MAX_BYTES - HEADER_BYTES));
  const chunk = Buffer.alloc(1_048_576, 'x');
  let frames: Frame[] = [];
  for (let left = FRAME_MAX_BYTES - HEADER_BYTES; left > 0; left -= chunk.length)
    frames = parser.push(chunk.subarray(0, left));
  t.equal(frames[0]?.body.length, FRAME_MAX_BYTES - HEADER_BYTES);
  t.ok(frames[0]?.body.every((byte) => byte === 'x'.charCodeAt(0)));
  t.end();
});

t.test('a reply with descriptors that does not say how many is refused', (t) => {
  const frame = encodeHeader({ ...REPLY, type: MessageType.replyWithDescriptors }, 0);
  t.throws(() => new FrameParser().push(frame), XdrError);
  t.end();
});
