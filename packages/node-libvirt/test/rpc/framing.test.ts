import t from 'tap';
import { encodeFrame, FrameParser } from '../../src/rpc/framing.ts';
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
    const parser = new FrameParser();
    const frames = [];
    for (let at = 0; at < stream.length; at += size)
      frames.push(...parser.push(stream.subarray(at, at + size)));
    t.same(
      frames.map((frame) => [frame.type, frame.body.toString('hex')]),
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
