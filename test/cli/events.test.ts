import t from 'tap';
import type { BerthEvent } from '../../src/model/event.ts';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { event } from './support/fixtures.ts';
import { berth, type RunOptions } from './support/run.ts';

function kept(count: number): Handlers {
  return {
    'event.list': ({ after, limit }) => {
      const all = Array.from({ length: count }, (_, at) => event(at + 1));
      return { events: all.filter(({ seq }) => seq > after).slice(0, limit), firstSeq: 1, lastSeq: count };
    },
  };
}

function seqsOf(ndjson: string): number[] {
  return ndjson
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as BerthEvent).seq);
}

/** Goes away as soon as the last event is there. */
function until(seq: number): Pick<RunOptions, 'onSleep'> {
  return { onSleep: ({ hangUp, stdout }) => stdout.includes(`"seq":${seq},`) && hangUp() };
}

t.test('events are read page by page, one JSON document a line', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, kept(2500));
  const { code, stdout } = await berth(['events', '--json'], { socketPath });
  t.equal(code, 0);
  t.strictSame(
    seqsOf(stdout),
    Array.from({ length: 2500 }, (_, at) => at + 1),
  );
  t.equal(calls.length, 3);
});

t.test('--after leaves out what is known', async (t) => {
  const { socketPath } = await fakeAgent(t, kept(5));
  const { stdout } = await berth(['events', '--json', '--after', '3'], { socketPath });
  t.strictSame(seqsOf(stdout), [4, 5]);
});

t.test(
  'a stream that ends is opened again after the last event, with none missed and none twice',
  async (t) => {
    const agent = await fakeAgent(t, kept(3));
    const cut = `${JSON.stringify(event(6))}\n{"seq":7,"type":"inst`;
    agent.streams.push([event(4), event(5)], cut, [event(6), event(7)], []);
    const { code, stdout } = await berth(['events', '--follow', '--json'], {
      socketPath: agent.socketPath,
      ...until(7),
    });
    t.equal(code, 0);
    t.strictSame(seqsOf(stdout), [4, 5, 6, 7]);
    t.strictSame(agent.followedAfter.slice(0, 4), [3, 5, 6, 7], 'from now on, then from where it stopped');
  },
);

t.test('an agent that stays away from a follower is not reachable, and the output stays pure', async (t) => {
  const agent = await fakeAgent(t, kept(3));
  agent.streams.push([event(4)]);
  const { code, stdout, stderr } = await berth(['events', '--follow', '--json', '--after', '3'], {
    socketPath: agent.socketPath,
    onSleep: () => void agent.close(),
  });
  t.equal(code, 3);
  t.strictSame(seqsOf(stdout), [4]);
  t.match(stderr, /^berth: Cannot reach the agent/);
});

t.test('an endless line and an event without a number are refused', async (t) => {
  for (const [stream, said] of [
    ['x'.repeat(1024 * 1024 + 1), /longer than 1048576 bytes/],
    ['{"type":"instance.changed"}\n', /an event has no number/],
    ['nonsense\n', /not JSON/],
  ] as const) {
    const agent = await fakeAgent(t, kept(0));
    agent.streams.push(stream);
    const ran = await berth(['events', '--follow'], { socketPath: agent.socketPath });
    t.match(ran, { code: 1, stderr: said });
  }
});
