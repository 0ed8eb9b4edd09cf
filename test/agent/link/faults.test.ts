/** Why a scheduler could not be reached, in words. */
import t from 'tap';
import { wordsOf } from '../../../src/agent/link/faults.ts';

t.test('a fault is told in words that say what to do, where it has such', async (t) => {
  const expired = Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' });
  t.match(wordsOf(expired), /has run out, by this node's clock \(CERT_HAS_EXPIRED\)/);
  t.equal(wordsOf(new Error('connect ECONNREFUSED 127.0.0.1:1')), 'connect ECONNREFUSED 127.0.0.1:1');
});

t.test('of a name with several addresses all that went wrong is told', async (t) => {
  const each = ['connect ECONNREFUSED ::1:1', 'connect ECONNREFUSED 127.0.0.1:1'];
  const whole = new AggregateError(each.map((message) => new Error(message)));
  t.equal(wordsOf(whole), each.join('; '));
});
