import t from 'tap';
import { Pacer, WorkGivenUp } from '../../src/xdr/slices.ts';

/** Work that pauses before each entry of its own. */
async function work(pacer: Pacer, name: string, slices: number, log: string[]): Promise<void> {
  for (let slice = 0; slice < slices; slice++) {
    await pacer.pause();
    log.push(name);
  }
}

t.test('pieces of work take turns, one in each turn of the event loop', async (t) => {
  const log: string[] = [];
  let isDone = false;
  const turn = () => {
    log.push('|');
    if (!isDone) setImmediate(turn);
  };
  setImmediate(turn);
  await Promise.all([work(new Pacer(), 'a', 3, log), work(new Pacer(), 'b', 3, log)]);
  isDone = true;
  t.same(
    log.filter((entry) => entry !== '|'),
    ['a', 'b', 'a', 'b', 'a', 'b'],
  );
  t.notMatch(log.join(''), /[ab]{2}/, 'never two in one turn');
  t.end();
});

t.test('a pause is due only after many bytes and when time is over', async (t) => {
  const pacer = new Pacer();
  await pacer.pause();
  t.notOk(pacer.isDue(100), 'few bytes');
  const endsAt = performance.now() + 3;
  while (performance.now() < endsAt); // a slice is over
  t.notOk(pacer.isDue(8_191), 'the clock is not looked at yet');
  t.ok(pacer.isDue(8_192));
  await pacer.pause();
  t.notOk(pacer.isDue(8_193), 'a new slice');
  t.end();
});

t.test('work that nobody waits for any more ends at its next pause', async (t) => {
  let isWanted = true;
  const pacer = new Pacer(() => isWanted);
  await pacer.pause();
  isWanted = false;
  await t.rejects(pacer.pause(), WorkGivenUp);
  await new Pacer().pause();
});
