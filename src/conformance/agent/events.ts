/** What an agent owes with its events. */
import { isDeepStrictEqual } from 'node:util';
import { type Clause, excerpt, must, Untried } from '../clause.ts';
import type { Line } from '../line.ts';
import type { AgentBench } from './bench.ts';
import type { SchedulerSide } from './scheduler-side.ts';

/** In which events come that are there, ms. */
const SETTLE_MS = 1_500;
const SMALL_WINDOW = 3;

type Told = Record<string, unknown> & { seq: number; after?: number };

export const EVENT_CLAUSES: readonly Clause<AgentBench>[] = [
  {
    id: 'events.order',
    level: 'must',
    text: 'sends events in the order of their numbers, from the one after `lastSeq`, without holes that it does not tell',
    async check({ side }) {
      const events = eventsOf(await fromTheFirst(side));
      if (events.length === 0) throw new Untried('it has no events');
      // The first one may come after a snapshot, which stands for those before it.
      for (const [before, event] of pairsOf(events)) {
        must(event.seq > before.seq, `${event.seq} came after ${before.seq}`);
        must(
          (event.after ?? event.seq - 1) <= before.seq,
          `between ${before.seq} and ${event.seq} some are missing`,
        );
      }
    },
  },
  {
    id: 'events.again',
    level: 'must',
    text: 'sends what was not acknowledged again on the next link, unchanged',
    async check({ side }) {
      const first = eventsOf(await fromTheFirst(side));
      if (first.length === 0) throw new Untried('it has no events');
      const second = eventsOf(await fromTheFirst(side));
      for (const event of first) {
        const same = second.find(({ seq }) => seq === event.seq);
        const isTold =
          same === undefined
            ? second.some(({ after = 0, seq }) => after < event.seq && event.seq < seq)
            : true;
        must(isTold, `event ${event.seq} did not come again`);
        const isEqual =
          same === undefined || isDeepStrictEqual({ ...same, after: 0 }, { ...event, after: 0 });
        must(isEqual, `event ${event.seq} was ${excerpt(event)} and is ${excerpt(same)}`);
      }
    },
  },
  {
    id: 'events.resume',
    level: 'must',
    text: 'sends nothing again that the scheduler says it has',
    async check({ side }) {
      const events = eventsOf(await fromTheFirst(side));
      const middle = events[Math.floor(events.length / 2)];
      if (middle === undefined) throw new Untried('it has no events');
      side.rewind(middle.seq);
      const line = await side.welcome(await side.dialAnew());
      await line.listen(SETTLE_MS);
      const old = eventsOf(line).find(({ seq }) => seq <= middle.seq);
      must(old === undefined, `the scheduler has ${middle.seq}, and it sent ${old?.seq}`);
    },
  },
  {
    id: 'events.window',
    level: 'must',
    text: 'sends no more unacknowledged events than the scheduler takes',
    async check({ side }) {
      const all = eventsOf(await fromTheFirst(side)).length;
      if (all <= SMALL_WINDOW) throw new Untried(`it has only ${all} events`);
      const dial = await side.dialAnew();
      const line = await side.welcome(dial, { link: side.terms({ events: SMALL_WINDOW }) });
      await line.listen(SETTLE_MS);
      const inFlight = eventsOf(line);
      must(inFlight.length <= SMALL_WINDOW, `it sent ${inFlight.length} where ${SMALL_WINDOW} are taken`);
      side.store(line, inFlight.at(-1)?.seq ?? 0);
      await line.until('event after the ack', () => eventsOf(line).length > inFlight.length);
    },
  },
  {
    id: 'ack.ahead',
    level: 'must',
    text: 'passes over an ack of what it has not sent',
    async check({ side }) {
      const line = await fromTheFirst(side);
      line.say({ method: 'ack', params: { seq: Number.MAX_SAFE_INTEGER } });
      const { error } = await line.ask('inventory.get');
      must(error === undefined, `after it, it answers ${excerpt(error?.message)}`);
      const events = eventsOf(line).length;
      must(
        eventsOf(await fromTheFirst(side)).length >= events,
        'after it, it does not send its events any more',
      );
    },
  },
];

/** A link on which all events come that the agent has. */
async function fromTheFirst(side: SchedulerSide): Promise<Line> {
  const dial = await side.dialAnew();
  side.rewind(0);
  const line = await side.welcome(dial);
  await line.listen(SETTLE_MS);
  return line;
}

function eventsOf(line: Line): Told[] {
  return line.of('event').map(({ message }) => message.params as Told);
}

function pairsOf(events: readonly Told[]): [Told, Told][] {
  return events.slice(1).map((event, index) => [events[index] as Told, event]);
}
