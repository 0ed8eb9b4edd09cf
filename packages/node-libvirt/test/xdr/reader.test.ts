import t from 'tap';
import { XdrError, XdrReader } from '../../src/xdr/reader.ts';

function reader(hex: string): XdrReader {
  return new XdrReader(Buffer.from(hex, 'hex'));
}

t.test('numbers are read big endian', (t) => {
  const r = reader('fffffffe' + '20008086' + 'ffffffffffffffff' + 'ffffffffffffffff' + '3ff8000000000000');
  t.equal(r.int(), -2);
  t.equal(r.uint(), 0x20008086);
  t.equal(r.hyper(), -1n);
  t.equal(r.uhyper(), 2n ** 64n - 1n);
  t.equal(r.double(), 1.5);
  t.equal(r.left, 0);
  t.end();
});

t.test('padding after strings and bytes is skipped', (t) => {
  const r = reader('00000005' + '6162636465000000' + '00000001' + 'ff000000' + '61626300');
  t.equal(r.string(10), 'abcde');
  t.same(r.opaque(1), Buffer.from([0xff]));
  t.same(r.fixed(3), Buffer.from('abc'));
  t.equal(r.left, 0);
  t.end();
});

t.test('bytes are copied, so that they do not keep or share the frame', (t) => {
  const frame = Buffer.from('0000000461626364', 'hex');
  const bytes = new XdrReader(frame).opaque(4);
  frame.fill(0);
  t.equal(bytes.toString(), 'abcd');
  t.end();
});

t.test('a string that is the same as an earlier one is that one', (t) => {
  const r = reader(
    '00000003' + '61626300' + '00000003' + '61626300' + '00000003' + '61626400' + '00000002' + '61620000',
  );
  const first = r.stringLike(undefined, 10);
  t.same(first, { text: 'abc', start: 4, bytes: 3 });
  t.equal(r.stringLike(first, 10), first);
  t.equal(r.stringLike(first, 10).text, 'abd');
  t.equal(r.stringLike(first, 10).text, 'ab');
  t.equal(r.left, 0);
  t.end();
});

t.test('a UUID is read as digits, and the position says how much was read', (t) => {
  const r = reader('0123456789abcdef0123456789abcdef' + 'ff000000' + '00000000');
  t.equal(r.hex(16), '0123456789abcdef0123456789abcdef');
  t.equal(r.hex(1), 'ff');
  t.equal(r.position, 20);
  t.equal(r.left, 4);
  t.end();
});

t.test('lies are refused with XdrError before anything is allocated', (t) => {
  const lies: [string, () => unknown][] = [
    ['an int of three bytes', () => reader('000000').int()],
    ['a hyper of four bytes', () => reader('00000000').hyper()],
    ['a string longer than its limit', () => reader('0000000b').string(10)],
    ['a string longer than the frame', () => reader('00400000' + '61').string(4_194_304)],
    ['a string without its padding', () => reader('00000001' + '61').string(10)],
    ['an optional value marked 2', () => reader('00000002').present()],
    ['an array over its limit', () => reader('00000003').count(2)],
    ['an array that the frame cannot hold', () => reader('ffffffff' + '00000000').count(0xffff_ffff)],
  ];
  for (const [what, read] of lies) t.throws(read, XdrError, what);
  t.end();
});
