/** A fleet that comes back is let in as fast as its hellos are dealt with, and nobody is forgotten. */
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { type Arrived, Floodgate, type Waiter } from '../../../src/scheduler/gateway/floodgate.ts';
import { Throughput } from '../../../src/scheduler/gateway/throughput.ts';
import { ManualClock } from '../support/manual-clock.ts';

function aGate(options: ConstructorParameters<typeof Floodgate>[1]) {
  const clock = new ManualClock();
  const gate = new Floodgate(clock, options);
  const said: string[] = [];
  const arrivals: Arrived[] = [];
  const come = (name: string, waiter: Waiter = {}): void => {
    gate.enter(waiter).then(
      (arrived) => {
        said.push(name);
        arrivals.push(arrived);
      },
      ({ code, details }) => said.push(`${name}: ${code} ${details?.retryAfterMs ?? ''}`.trim()),
    );
  };
  return { clock, gate, said, come, arrive: () => arrivals.shift()?.() };
}

t.test('who finds so many on their way in waits, and comes in turn', async (t) => {
  const { gate, said, come, arrive } = aGate({ window: 2 });
  for (const name of ['a', 'b', 'c', 'd']) come(name);
  await turn();
  t.same(said, ['a', 'b']);
  t.equal(gate.waiting, 2);
  arrive();
  await turn();
  t.same(said, ['a', 'b', 'c']);
  arrive();
  await turn();
  t.same(said, ['a', 'b', 'c', 'd']);
});

t.test('a link that arrives and closes later counts once', async (t) => {
  const { gate, said, come } = aGate({ window: 1 });
  const arrived = await gate.enter();
  for (const name of ['b', 'c']) come(name);
  arrived();
  arrived();
  await turn();
  t.same(said, ['b']);
});

t.test('one who is let in and says nothing keeps nobody out for long', async (t) => {
  const { clock, said, come } = aGate({ window: 1 });
  for (const name of ['silent', 'b']) come(name);
  await turn();
  clock.advance(1_999);
  await turn();
  t.same(said, ['silent']);
  clock.advance(1);
  await turn();
  t.same(said, ['silent', 'b']);
});

t.test('nobody overtakes those who wait', async (t) => {
  const { clock, said, come } = aGate({ links: { burst: 1, refillMs: 10 } });
  for (const name of ['a', 'b', 'c']) come(name);
  clock.advance(10);
  come('late');
  clock.advance(30);
  await turn();
  t.same(said, ['a', 'b', 'c', 'late']);
});

t.test('who would wait too long is told when to come, after all who wait', async (t) => {
  const { said, come } = aGate({ window: 1, waiting: 2 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) come(name);
  await turn();
  t.same(said, ['a', 'd: LIMIT_REACHED 8', 'e: LIMIT_REACHED 10'], 'at 500 a second, the first guess');
});

t.test('who has waited all the same is turned away before it gives up', async (t) => {
  const { clock, gate, said, come } = aGate({ links: { burst: 1, refillMs: 60_000 } });
  for (const name of ['a', 'b']) come(name);
  clock.advance(6_999);
  await turn();
  t.same(said, ['a']);
  clock.advance(1);
  await turn();
  t.match(said[1], /^b: LIMIT_REACHED \d+$/);
  t.equal(gate.waiting, 0);
});

t.test('who says that it waits longer is held longer', async (t) => {
  const { clock, said, come } = aGate({ links: { burst: 1, refillMs: 60_000 } });
  for (const name of ['a', 'b', 'c']) come(name, name === 'c' ? { patienceMs: 30_000 } : {});
  clock.advance(26_999);
  await turn();
  t.match(said, ['a', /^b: LIMIT_REACHED/]);
  t.equal(said.length, 2);
  clock.advance(1);
  await turn();
  t.match(said[2], /^c: LIMIT_REACHED \d+$/);
});

t.test('the more patient find a place where the others find none', async (t) => {
  const { gate, said, come } = aGate({ window: 1 });
  for (let n = 0; n < 3_000; n++) come('patient', { patienceMs: 30_000 });
  come('hasty');
  come('in no mood to wait', { patienceMs: 1_000 });
  await turn();
  t.match(said, ['patient', /^hasty: LIMIT_REACHED/, /^in no mood to wait: LIMIT_REACHED/]);
  t.equal(gate.waiting, 2_999, 'at 500 a second they have their turn in six seconds');
});

t.test('who has gone takes no turn, and who has room for one more is told', async (t) => {
  const { gate, said, come, arrive } = aGate({ window: 1 });
  let eased = 0;
  gate.onEased(() => eased++);
  const gone = new AbortController();
  come('a');
  come('b', { gone: gone.signal });
  come('c');
  gone.abort();
  await turn();
  t.same([gate.waiting, eased], [1, 1]);
  arrive();
  await turn();
  t.same(said, ['a', 'b: CANCELLED', 'c']);
  t.equal(eased, 2);
});

t.test('a gateway that is slow today lets fewer wait, and tells the others to come later', async (t) => {
  const { clock, gate, said, come, arrive } = aGate({ window: 1 });
  for (let n = 0; n < 100; n++) come(String(n));
  for (let n = 0; n < 40; n++) {
    await turn();
    clock.advance(100);
    arrive();
  }
  const before = gate.waiting;
  t.ok(before > 40);
  for (let n = 0; n < 100; n++) come('late');
  await turn();
  const turned = said.filter((word) => word.startsWith('late: LIMIT_REACHED'));
  t.ok(turned.length > 0, 'at ten a second not all of two hundred have a turn soon');
  const [first = 0] = turned.map((word) => Number(word.split(' ').at(-1)));
  t.ok(first > before * 30, 'and the slots are as far apart as arrivals are');
});

t.test('all who wait are turned away at the end', async (t) => {
  const { gate, said, come } = aGate({ window: 1 });
  for (const name of ['a', 'b', 'c']) come(name);
  gate.close();
  await turn();
  t.same(said.toSorted(), ['a', 'b: UNAVAILABLE', 'c: UNAVAILABLE']);
});

t.test('throughput is measured while there is more to do, within bounds', (t) => {
  const clock = new ManualClock();
  const throughput = new Throughput(clock);
  const deal = (count: number, everyMs: number, isBusy: boolean): number => {
    for (let n = 0; n < count; n++) {
      throughput.count({ isBusy });
      clock.advance(everyMs);
    }
    return throughput.perSecond;
  };
  t.equal(deal(50, 1_000, false), 500, 'what comes now and then says nothing');
  const slow = deal(150, 20, true);
  t.ok(slow > 45 && slow < 80, 'about 50 a second');
  t.equal(deal(2_000, 0.1, true) <= 1_000, true);
  t.equal(deal(50, 5_000, true), 25, 'a stall is not taken for its whole length');
  t.end();
});
