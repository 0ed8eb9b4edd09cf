/**
 * Random sequences of listening, stopping, losing the connection and slow replies, against the fake daemon that refuses
 * what libvirtd refuses. Whatever the order: nobody hears what was not meant for him or hears it twice, and nothing is left.
 */
import t from 'tap';
import type { Connection } from '../../src/connection.ts';
import { LibvirtTransportError } from '../../src/errors.ts';
import fc from '../support/property.ts';
import { until } from '../support/until.ts';
import { domainNamed, type EventDaemon, openPair } from './event-daemon.ts';

const NAMES = ['a', 'b', null] as const;

type Step =
  | { do: 'listen'; to: (typeof NAMES)[number]; timeoutMs: number | undefined }
  | { do: 'stop'; which: number }
  | { do: 'event'; about: 'a' | 'b' }
  | { do: 'answer'; which: number }
  | { do: 'drop' };

const listen = fc.record({
  do: fc.constant('listen' as const),
  to: fc.constantFrom(...NAMES),
  timeoutMs: fc.constantFrom(0, undefined, undefined),
});
const stop = fc.record({ do: fc.constant('stop' as const), which: fc.nat(20) });
const event = fc.record({
  do: fc.constant('event' as const),
  about: fc.constantFrom('a' as const, 'b' as const),
});
const answer = fc.record({ do: fc.constant('answer' as const), which: fc.nat(3) });
const drop = fc.constant({ do: 'drop' as const });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: listen },
  { weight: 4, arbitrary: stop },
  { weight: 2, arbitrary: event },
  { weight: 6, arbitrary: answer },
  { weight: 1, arbitrary: drop },
);

/** One who listens, and what has been heard since the daemon confirmed it. */
interface Ear {
  to: (typeof NAMES)[number];
  heard: string[];
  isStopped: boolean;
  stop: (() => Promise<void>) | null;
  settled: Promise<void>;
}

class Run {
  readonly #daemon: EventDaemon;
  readonly #connection: Connection;
  readonly #ears: Ear[] = [];
  readonly #stops: Promise<void>[] = [];
  #answers: (() => void)[] = [];
  #count = 0;

  constructor(daemon: EventDaemon, connection: Connection) {
    this.#daemon = daemon;
    this.#connection = connection;
    daemon.delay = ({ peer }, answer) => {
      if (peer.socket.destroyed) return;
      this.#answers.push(answer);
    };
  }

  async do(step: Step): Promise<void> {
    switch (step.do) {
      case 'listen':
        this.#listen(step.to, step.timeoutMs);
        break;
      case 'stop':
        this.#stop(this.#ears[step.which % Math.max(1, this.#ears.length)]);
        break;
      case 'event':
        this.#daemon.lifecycle(step.about, this.#daemon.registered);
        break;
      case 'answer':
        this.#answers.splice(step.which % Math.max(1, this.#answers.length), 1)[0]?.();
        break;
      case 'drop':
        this.#daemon.fake.dropAll();
        this.#answers = [];
        break;
      default:
        step satisfies never;
    }
    await new Promise(setImmediate);
  }

  /** Lets the daemon answer everything, and checks who hears what. */
  async finish(): Promise<void> {
    this.#daemon.delay = null;
    for (const answer of this.#answers) answer();
    await Promise.all(this.#ears.map((ear) => ear.settled));
    await Promise.all(this.#stops);
    await until(() => this.#isAnswered(), 'the connection is there again');
    const listening = this.#ears.filter((ear) => ear.stop !== null && !ear.isStopped);
    const wishes = new Set(listening.map((ear) => ear.to));
    await until(() => this.#daemon.registered.length === wishes.size, 'the daemon has what is wanted');
    for (const ear of this.#ears) ear.heard = [];
    for (const name of ['a', 'b']) this.#daemon.lifecycle(name);
    await this.#connection.getLibVersion({ role: 'control' });
    for (const ear of this.#ears) this.#check(ear, listening.includes(ear));
    for (const ear of listening) await ear.stop?.().catch(expectTransportError);
    await until(() => this.#daemon.registered.length === 0, 'the daemon has nothing left');
  }

  /** The last loss may not have been noticed yet. */
  #isAnswered(): Promise<boolean> {
    return this.#connection.getLibVersion({ role: 'control' }).then(
      () => true,
      (error: unknown) => {
        expectTransportError(error);
        return false;
      },
    );
  }

  #listen(to: Ear['to'], timeoutMs: number | undefined): void {
    const domain = to === null ? undefined : { ...domainNamed(to), id: this.#count++ };
    const ear: Ear = { to, heard: [], isStopped: false, stop: null, settled: Promise.resolve() };
    const listener = ({ domain: { name } }: { domain: { name: string } }) => {
      if (ear.isStopped) throw new Error('a listener that was stopped has heard something');
      if (to !== null && to !== name) throw new Error(`${to} has heard of ${name}`);
      ear.heard.push(name);
    };
    const options = { domain, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
    ear.settled = this.#connection.onEvent('domain', 'lifecycle', listener, options).then((stop) => {
      ear.stop = stop;
    }, expectTransportError);
    this.#ears.push(ear);
  }

  #stop(ear: Ear | undefined): void {
    if (ear === undefined || ear.stop === null) return;
    ear.isStopped = true;
    this.#stops.push(ear.stop().catch(expectTransportError));
  }

  #check(ear: Ear, isListening: boolean): void {
    const expected = isListening ? (ear.to === null ? 'ab' : ear.to) : '';
    if (ear.heard.join('') !== expected) throw new Error(`${ear.to}: heard ${ear.heard}, not ${expected}`);
  }
}

function expectTransportError(error: unknown): void {
  if (!(error instanceof LibvirtTransportError)) throw error;
}

async function run(steps: Step[]): Promise<void> {
  const { daemon, connection, end } = await openPair();
  try {
    const run = new Run(daemon, connection);
    for (const step of steps) await run.do(step);
    await run.finish();
  } finally {
    await end();
  }
}

/** Who waited for a release gave up, and the next who listened found another registration of the same under way. */
const GIVEN_UP: Step[] = [
  { do: 'listen', to: 'a', timeoutMs: 0 },
  { do: 'stop', which: 4 },
  { do: 'listen', to: null, timeoutMs: 0 },
  { do: 'stop', which: 7 },
  { do: 'answer', which: 3 },
  { do: 'stop', which: 7 },
  { do: 'answer', which: 2 },
  { do: 'listen', to: 'b', timeoutMs: 0 },
  { do: 'listen', to: null, timeoutMs: 0 },
  { do: 'listen', to: 'b', timeoutMs: undefined },
  { do: 'stop', which: 8 },
  { do: 'answer', which: 1 },
  { do: 'answer', which: 3 },
  { do: 'answer', which: 1 },
  { do: 'answer', which: 2 },
  { do: 'listen', to: null, timeoutMs: 0 },
  { do: 'listen', to: 'b', timeoutMs: 0 },
];

t.test('whatever the order, each hears his own events once, and nothing is left', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), run), {
    numRuns: 100,
    examples: [[GIVEN_UP]],
  });
});
