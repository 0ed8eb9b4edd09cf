/** Events of several links share a commit, and nobody suffers from what another one has sent. */
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import t from 'tap';
import { EventRound } from '../../../src/scheduler/nodes/event-round.ts';

const logger = pino({ level: 'silent' });

/** A round that counts its commits, and links that say what becomes of their batch. */
function makeRound() {
  const said: string[] = [];
  let commits = 0;
  const transaction = <T>(body: () => T): T => {
    const result = body();
    commits++;
    return result;
  };
  const link = (name: string, fails = false) => ({
    write: () => {
      if (fails) throw new Error('it does not fit');
    },
    confirm: () => said.push(`${name} confirmed`),
    flush: () => said.push(`${name} by itself`),
  });
  return { round: new EventRound({ transaction }, logger), said, link, commits: () => commits };
}

t.test('links that have events in one turn share a commit, and are told after it', async (t) => {
  const { round, said, link, commits } = makeRound();
  round.join(link('a'));
  round.join(link('b'));
  t.same(said, [], 'nothing is told before the end of the turn');
  await turn();
  t.equal(commits(), 1);
  t.same(said, ['a confirmed', 'b confirmed']);
});

t.test('where one can not be stored each is stored by itself', async (t) => {
  const { round, said, link, commits } = makeRound();
  for (const each of [link('a'), link('b', true), link('c')]) round.join(each);
  await turn();
  t.equal(commits(), 0);
  t.same(said, ['a by itself', 'b by itself', 'c by itself']);
});

t.test('one link alone has its own commit', async (t) => {
  const { round, said, link } = makeRound();
  round.join(link('a'));
  await turn();
  t.same(said, ['a by itself']);
  round.join(link('b'));
  await turn();
  t.same(said, ['a by itself', 'b by itself'], 'and the next turn is another round');
});

t.test('so many links as there may be share one commit, and the others the next', async (t) => {
  const { round, said, link, commits } = makeRound();
  for (let n = 0; n < 130; n++) round.join(link(String(n)));
  await turn();
  t.equal(commits(), 3);
  t.equal(said.length, 130);
});
