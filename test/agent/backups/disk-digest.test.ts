import { randomBytes } from 'node:crypto';
import t from 'tap';
import { DiskDigest } from '../../../src/agent/backups/disk-digest.ts';

const BLOCK = 4096;

function digestOf(...pieces: [offset: number, data: Uint8Array][]): string {
  const digest = new DiskDigest();
  for (const [offset, data] of pieces) digest.add(offset, data);
  return digest.hex;
}

t.test('the order and the size of the pieces make no difference, and zeros none at all', (t) => {
  const [a, b] = [randomBytes(BLOCK), randomBytes(BLOCK)];
  const whole = digestOf([0, Buffer.concat([a, b])]);
  t.equal(digestOf([BLOCK, b], [0, a]), whole);
  t.equal(digestOf([0, a], [BLOCK, b], [10 * BLOCK, Buffer.alloc(3 * BLOCK)]), whole);
  t.equal(digestOf([0, Buffer.concat([a, b.subarray(0, 10)])]), digestOf([0, a], [BLOCK, b.subarray(0, 10)]));
  t.equal(digestOf().length, 64);
  t.end();
});

t.test('another byte, and the same bytes in another place, make one', (t) => {
  const [a, b] = [randomBytes(BLOCK), randomBytes(BLOCK)];
  const whole = digestOf([0, a], [BLOCK, b]);
  t.not(digestOf([0, b], [BLOCK, a]), whole);
  t.not(digestOf([0, a], [2 * BLOCK, b]), whole);
  t.not(digestOf([0, a]), whole);
  t.not(digestOf([0, a], [0, a]), digestOf([0, a]), 'nor does the same twice cancel out');
  const other = Buffer.from(b);
  other[100] = (other[100] ?? 0) ^ 1;
  t.not(digestOf([0, a], [BLOCK, other]), whole);
  t.throws(() => digestOf([1, a]), { code: 'UNSUPPORTED' });
  t.end();
});
