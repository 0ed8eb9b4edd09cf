import t from 'tap';
import { LibvirtUsageError } from '../../src/errors.ts';
import { XdrWriter } from '../../src/xdr/writer.ts';

function hexOf(write: (writer: XdrWriter) => void): string {
  const writer = new XdrWriter();
  write(writer);
  return writer.finish().toString('hex');
}

t.test('numbers are big endian', (t) => {
  t.equal(
    hexOf((w) => w.int(-2)),
    'fffffffe',
  );
  t.equal(
    hexOf((w) => w.uint(0x20008086)),
    '20008086',
  );
  t.equal(
    hexOf((w) => w.hyper(-1n)),
    'ffffffffffffffff',
  );
  t.equal(
    hexOf((w) => w.uhyper(2n ** 64n - 1n)),
    'ffffffffffffffff',
  );
  t.equal(
    hexOf((w) => w.uhyper(5)),
    '0000000000000005',
    'a safe number is taken for a bigint',
  );
  t.equal(
    hexOf((w) => w.double(1.5)),
    '3ff8000000000000',
  );
  t.end();
});

t.test('strings and bytes carry their count and are padded to four bytes with zeros', (t) => {
  t.equal(
    hexOf((w) => w.string('', 10)),
    '00000000',
  );
  t.equal(
    hexOf((w) => w.string('abcde', 10)),
    '000000056162636465000000',
  );
  t.equal(
    hexOf((w) => w.string('ü', 10)),
    '00000002c3bc0000',
  );
  t.equal(
    hexOf((w) => w.opaque(Buffer.from('abcd'), 4)),
    '0000000461626364',
  );
  t.equal(
    hexOf((w) => w.fixed(Buffer.from('abc'), 3)),
    '61626300',
  );
  t.end();
});

t.test('a writer grows as needed', (t) => {
  const text = 'x'.repeat(100_000);
  t.equal(hexOf((w) => w.string(text, 100_000)).length, 2 * 100_004);
  t.end();
});

t.test('what does not fit its type is refused', (t) => {
  const refused: [string, (w: XdrWriter) => void][] = [
    ['an int over 31 bits', (w) => w.int(2 ** 31)],
    ['a fraction', (w) => w.int(1.5)],
    ['a number as text', (w) => w.int('1')],
    ['a negative uint', (w) => w.uint(-1)],
    ['a missing value', (w) => w.uint(undefined)],
    ['a bigint over 63 bits', (w) => w.hyper(2n ** 63n)],
    ['an unsafe number', (w) => w.uhyper(2 ** 60)],
    ['a negative uhyper', (w) => w.uhyper(-1n)],
    ['a double that is text', (w) => w.double('1')],
    ['a string over its limit in bytes', (w) => w.string('üü', 3)],
    ['a string with NUL', (w) => w.string('a\0b', 10)],
    ['bytes over their limit', (w) => w.opaque(Buffer.alloc(5), 4)],
    ['bytes that are text', (w) => w.opaque('abc', 4)],
    ['fixed bytes of another length', (w) => w.fixed(Buffer.alloc(15), 16)],
  ];
  for (const [what, write] of refused) t.throws(() => hexOf(write), LibvirtUsageError, what);
  t.end();
});
