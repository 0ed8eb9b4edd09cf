import t from 'tap';
import { free } from '../../src/model/free.ts';

const LARGE = 1024 * 1024;

t.test('large bytes of their own are gone at once, and parts of others and small ones stay', (t) => {
  const own = new Uint8Array(LARGE);
  free(own);
  t.equal(own.length, 0);
  const whole = new Uint8Array(LARGE);
  free(whole.subarray(1));
  t.equal(whole.length, LARGE);
  const small = new Uint8Array(1024);
  free(small);
  t.equal(small.length, 1024);
  free(own);
  t.end();
});
