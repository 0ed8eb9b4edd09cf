/** How long who dials says that it waits. */
import t from 'tap';
import { patienceOf, preferWait } from '../../src/model/patience.ts';

t.test('what is said is understood', (t) => {
  t.equal(patienceOf(preferWait(30)), 30_000);
  t.equal(patienceOf('respond-async, wait=10'), 10_000);
  t.equal(patienceOf('Wait = "10"; of=no-meaning'), 10_000);
  t.end();
});

t.test('who says nothing of it has said nothing', (t) => {
  for (const said of [undefined, '', 'respond-async', 'wait', 'wait=soon', 'wait=-5', 'await=5'])
    t.equal(patienceOf(said), null, `${said}`);
  t.end();
});

t.test('nobody is believed to wait for hours', (t) => {
  t.equal(patienceOf('wait=99999'), 60_000);
  t.equal(patienceOf('wait=0'), 0);
  t.end();
});
