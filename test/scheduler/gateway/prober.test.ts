/** Links that are half-open are cut, and good ones are not, whatever has become of this process meanwhile. */
import t from 'tap';
import type { AgentSession } from '../../../src/scheduler/gateway/agent-session.ts';
import { Prober } from '../../../src/scheduler/gateway/prober.ts';
import { ManualClock } from '../support/manual-clock.ts';

const INTERVAL_MS = 5_000;

/** A link whose peer answers in no time, or not at all, and may say something by itself. */
class Peer {
  answers = true;
  isCut = false;
  asked = 0;
  #silentTicks = 0;

  noteSilence(): number {
    return ++this.#silentTicks;
  }

  ask(): void {
    this.asked++;
    if (this.answers) this.read();
  }

  cut(): void {
    this.isCut = true;
  }

  /** What it has said is read now. */
  read(): void {
    this.#silentTicks = 0;
  }
}

function probed(count: number, intervalMs = () => INTERVAL_MS) {
  const clock = new ManualClock();
  const prober = new Prober(clock, intervalMs);
  const peers = Array.from({ length: count }, () => new Peer());
  for (const peer of peers) prober.add(peer as unknown as AgentSession);
  return { clock, peers, cut: () => peers.filter(({ isCut }) => isCut).length };
}

t.test(
  'one that is heard of in each interval is asked nothing, and one that is not is asked in time',
  (t) => {
    const { clock, peers, cut } = probed(2);
    const [loud, quiet] = peers as [Peer, Peer];
    for (let interval = 0; interval < 20; interval++) {
      clock.advance(INTERVAL_MS);
      loud.read();
    }
    t.equal(loud.asked, 0);
    t.equal(quiet.asked, 16, 'a bit later each time than the other would have been heard');
    t.equal(cut(), 0);
    t.end();
  },
);

t.test('one that is silent for two intervals is cut', (t) => {
  const { clock, peers, cut } = probed(20);
  for (const peer of peers.slice(0, 3)) peer.answers = false;
  clock.advance(INTERVAL_MS);
  t.equal(cut(), 0);
  clock.advance(INTERVAL_MS);
  t.equal(cut(), 3);
  t.end();
});

t.test('after this process stood still nobody is cut before there was time to be heard', (t) => {
  const { clock, peers, cut } = probed(20);
  for (const peer of peers) peer.answers = false; // what they say is not read
  clock.advance(INTERVAL_MS);
  clock.stall(60_000);
  t.equal(cut(), 0, 'the timer came before what was in the sockets');
  clock.advance(INTERVAL_MS / 2);
  for (const peer of peers) {
    peer.answers = true;
    peer.read();
  }
  clock.advance(10 * INTERVAL_MS);
  t.equal(cut(), 0);
  t.end();
});

t.test(
  'one that is dead is cut after the stall all the same, within half a minute and two intervals',
  (t) => {
    const { clock, peers, cut } = probed(20);
    clock.advance(INTERVAL_MS);
    for (const peer of peers.slice(0, 3)) peer.answers = false;
    clock.stall(3_600_000);
    clock.advance(30_000 - INTERVAL_MS);
    t.equal(cut(), 0);
    clock.advance(2 * INTERVAL_MS);
    t.equal(cut(), 3);
    t.end();
  },
);

t.test('a stall that leaves peers their time changes nothing', (t) => {
  const { clock, peers, cut } = probed(20);
  for (const peer of peers.slice(0, 3)) peer.answers = false;
  clock.advance(INTERVAL_MS);
  clock.stall(INTERVAL_MS / 2);
  clock.advance(INTERVAL_MS);
  t.equal(cut(), 3);
  t.end();
});

t.test('where agents are to tell less often they are asked and cut later by as much', (t) => {
  for (const longer of [6_000, 7_000, 10_000]) {
    let intervalMs = INTERVAL_MS;
    const { clock, peers, cut } = probed(3, () => intervalMs);
    const [loud, quiet, dead] = peers as [Peer, Peer, Peer];
    intervalMs = longer;
    dead.answers = false;
    for (let interval = 0; interval < 3; interval++) {
      t.equal(cut(), interval < 2 ? 0 : 1, `after ${interval} intervals of ${longer} ms`);
      clock.advance(longer);
      loud.read();
    }
    t.equal(loud.asked, 0);
    t.equal(quiet.asked, 2, 'one that says nothing by itself is asked, and answers');
    t.same([loud.isCut, quiet.isCut, dead.isCut], [false, false, true]);
  }
  t.end();
});
