/** What may keep a block of memory alive, and what is copied out of it. */
import t from 'tap';
import { standingAlone } from '../../src/rpc/standing-alone.ts';

t.test('a piece of a block is not copied, unless it would keep a much larger block', (t) => {
  const block = Buffer.allocUnsafeSlow(80).fill('a');
  const [large, small] = [standingAlone(block.subarray(7, 17)), standingAlone(block.subarray(7, 16))];
  block.fill('x');
  t.equal(large.toString(), 'x'.repeat(10));
  t.equal(small.toString(), 'a'.repeat(9));
  t.equal(small.buffer.byteLength, 9, 'and its memory is its own');
  t.end();
});
