/**
 * Whole connections over a real socket, against a daemon that lies in the middle of everything: connecting, calls,
 * events, streams. Whatever it sends, every promise is settled with a value or a typed error, streams end, sockets are
 * closed, and nothing is thrown where nobody can catch it.
 */
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { connect } from '../../src/connect.ts';
import type { Connection } from '../../src/connection.ts';
import { LibvirtError, LibvirtTransportError, LibvirtUsageError } from '../../src/errors.ts';
import { EVENT_FAMILIES, eventKinds } from '../../src/events/families.ts';
import { PROCEDURES } from '../../src/protocol/schema.gen.ts';
import type { Frame } from '../../src/rpc/framing.ts';
import type { LibvirtStream } from '../../src/rpc/stream.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';
import { until } from '../support/until.ts';
import { answer, rightReply } from './answers.ts';
import { Bodies } from './bodies.ts';
import type { Random } from './random.ts';
import { failure, heapInUse, plannedRun, randomOf } from './run.ts';
import { ARGUMENTS } from './shape.ts';
import { CASES, CASES_TOTAL } from './shares.ts';
import { synthesise } from './synthesise.ts';

const CALLS_MAX = 5;
/** After fewer the heap still grows by compiled code and its feedback, which is no leak. */
const WARM_UP_CASES = 1_500;
const HEAP_GROWTH_MAX_BYTES = 8_000_000;

/** A call whose answer is left out is given up after this; with more, the run would mostly wait. */
const CALL_TIMEOUT_MS = 250;

/** Of a hundred answers so many are right in any case: to the calls that open a connection, and to all others. */
const HANDSHAKE_RIGHT = 97;
const OTHERS_RIGHT = 60;

/** A session takes some milliseconds; one that waits for nothing takes for ever. */
const SESSION_MAX_MS = 30_000;

const SESSIONS_AT_ONCE = 48;

const DOMAIN = { name: 'd', uuid: '01234567-89ab-cdef-0123-456789abcdef', id: 1 };

/** What would end the session, or is no method of libvirt's. */
const NOT_CALLED = ['constructor', 'close'];

const ROLES = ['control', 'short', 'long'] as const;
const HANDSHAKE = ['authList', 'connectSupportsFeature', 'connectOpen', 'connectGetLibVersion'].map((name) =>
  Number(PROCEDURES[name]?.split(' ')[2]),
);
const argumentTypes = new Map(ARGUMENTS.map(({ name, type }) => [name, type]));
const opensStream = (name: string) => /[<>]/.test(PROCEDURES[name] ?? '');
const plainNames = Object.keys(PROCEDURES).filter((name) => !opensStream(name));
const streamNames = Object.keys(PROCEDURES).filter(opensStream);

const run = plannedRun(CASES.session, CASES_TOTAL);

/** Procedures by name are typed; here any is called with anything. */
type AnyCall = (name: string, args: unknown, options: object) => Promise<unknown>;
type AnyOpen = (name: string, args: unknown) => Promise<{ stream: LibvirtStream }>;

interface Outcomes {
  values: number;
  errors: number;
}

function handlerOf(bodies: Bodies, random: Random): (peer: Peer, call: Frame) => void {
  return (peer, call) => {
    const share = HANDSHAKE.includes(call.procedure) ? HANDSHAKE_RIGHT : OTHERS_RIGHT;
    const isRight = random.percent(share);
    const isFirst = call.procedure === HANDSHAKE[0];
    // the list of kinds of authentication has to be empty for the session to go on
    const right = isFirst ? noAuthentication(call) : rightReply(call, bodies, random);
    peer.socket.write(isRight ? right : answer(call, bodies, random));
  };
}

function noAuthentication(call: Frame): Buffer {
  const words = [32, call.program, 1, call.procedure, 1, call.serial, 0, 0];
  const frame = Buffer.alloc(32);
  for (const [index, word] of words.entries()) frame.writeUInt32BE(word, index * 4);
  return frame;
}

/** Counts how a promise ends. @throws {Error} It is rejected with an error of another kind. */
async function settled(promise: Promise<unknown>, outcomes: Outcomes): Promise<void> {
  try {
    await promise;
    outcomes.values++;
  } catch (error) {
    if (!(error instanceof LibvirtError || error instanceof LibvirtTransportError)) throw error;
    outcomes.errors++;
  }
}

/** One of each kind of object that has methods, the connection itself among them. */
function objectsOf(connection: Connection): object[] {
  const { objects } = connection;
  return [
    connection,
    objects.domain(DOMAIN),
    objects.network(DOMAIN),
    objects.storagePool(DOMAIN),
    objects.storageVolume({ pool: 'p', name: 'v', key: 'k' }),
    objects.nodeDevice(DOMAIN),
    objects.secret({ uuid: DOMAIN.uuid, usageType: 0, usageID: '' }),
    objects.domainSnapshot({ name: 's', dom: DOMAIN }),
  ];
}

function methodsOf(object: object): (() => unknown)[] {
  const methods: (() => unknown)[] = [];
  for (let proto = object; proto !== Object.prototype; proto = Object.getPrototypeOf(proto))
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto)))
      if (typeof value === 'function' && !NOT_CALLED.includes(name)) methods.push(value);
  return methods;
}

/** Calls a method without its arguments: one that needs some refuses that, and the others get a hostile answer. */
async function callMethod(object: object, random: Random): Promise<unknown> {
  try {
    return await random.pick(methodsOf(object)).call(object);
  } catch (error) {
    if (error instanceof LibvirtUsageError) return undefined;
    throw error;
  }
}

async function useStream(connection: Connection, random: Random): Promise<void> {
  const name = random.pick(streamNames);
  const open = connection.openStream.bind(connection) as unknown as AnyOpen;
  const { stream } = await open(name, synthesise(argumentTypes.get(name) ?? '', random));
  const closed = new Promise<void>((resolve, reject) => {
    let failed: Error | null = null;
    stream.on('error', (error: Error) => (failed = error));
    stream.on('close', () => (failed === null ? resolve() : reject(failed)));
  });
  stream.resume();
  // The daemon may have ended it before it came to the caller.
  if (random.percent(50) && stream.writable) stream.write(Buffer.alloc(random.below(1_000)));
  stream.end();
  connection.onStateChange(() => stream.destroy());
  await closed;
}

function useEverything(connection: Connection, random: Random, outcomes: Outcomes): Promise<unknown>[] {
  const call = connection.call.bind(connection) as unknown as AnyCall;
  const work: Promise<unknown>[] = [];
  for (let left = random.below(CALLS_MAX); left > 0; left--) {
    const family = random.pick(EVENT_FAMILIES);
    work.push(
      settled(
        connection.onEvent(family, random.pick(eventKinds(family)), () => {}),
        outcomes,
      ),
    );
  }
  const objects = objectsOf(connection);
  for (let left = random.below(CALLS_MAX); left > 0; left--)
    work.push(settled(callMethod(random.pick(objects), random), outcomes));
  for (let left = 1 + random.below(CALLS_MAX); left > 0; left--) {
    const name = random.pick(plainNames);
    const type = argumentTypes.get(name);
    const options = { role: random.pick(ROLES) };
    work.push(settled(call(name, type && synthesise(type, random), options), outcomes));
  }
  return work;
}

async function play(daemon: FakeDaemon, bodies: Bodies, random: Random): Promise<Outcomes> {
  const outcomes: Outcomes = { values: 0, errors: 0 };
  daemon.onEvery = handlerOf(bodies, random);
  const connecting = connect('test:///default', {
    socketPath: daemon.socketPath,
    auth: { username: 'user', password: 'secret' },
    callTimeoutMs: CALL_TIMEOUT_MS,
    longCallTimeoutMs: CALL_TIMEOUT_MS,
    reconnect: random.percent(30) ? { initialMs: 1, maxMs: 2 } : false,
  });
  await settled(connecting, outcomes);
  if (outcomes.errors > 0) return outcomes;
  const connection = await connecting;
  const calls = useEverything(connection, random, outcomes);
  // a stream may rightly stay open for as long as the daemon says nothing, so it is only waited for after close()
  const stream = random.percent(40) ? settled(useStream(connection, random), outcomes) : undefined;
  if (random.percent(50)) await Promise.all(calls);
  await connection.close();
  await Promise.all([...calls, stream]);
  await turn();
  return outcomes;
}

/** A session that hangs fails by name, and not by the runner's patience. */
async function bounded<T>(promise: Promise<T>): Promise<T> {
  const abort = new AbortController();
  const limit = delay(SESSION_MAX_MS, undefined, { signal: abort.signal }).then(() => {
    throw new Error(`not over within ${SESSION_MAX_MS} ms`);
  });
  limit.catch(() => {}); // aborted, which is what is wanted
  try {
    return await Promise.race([promise, limit]);
  } finally {
    abort.abort();
  }
}

async function runCase(daemon: FakeDaemon, bodies: Bodies, index: number): Promise<Outcomes> {
  try {
    const outcomes = await bounded(play(daemon, bodies, randomOf(run, index)));
    await until(() => daemon.peers.every((peer) => peer.socket.destroyed), 'all sockets are closed');
    daemon.peers.length = 0;
    return outcomes;
  } catch (error) {
    throw failure(run, index, 'a session', error);
  }
}

/** Sessions from one index to before another, several at a time, since they mostly wait. */
async function runAll(bodies: Bodies, from: number, to: number): Promise<Outcomes> {
  const sum: Outcomes = { values: 0, errors: 0 };
  let next = from;
  const runSome = async () => {
    await using daemon = await FakeDaemon.start();
    while (next < to) {
      const { values, errors } = await runCase(daemon, bodies, next++);
      sum.values += values;
      sum.errors += errors;
    }
  };
  await Promise.all(Array.from({ length: SESSIONS_AT_ONCE }, runSome));
  return sum;
}

/** Once the last call that nobody answers is given up, and what its timer holds is free. */
async function heapAtRest(): Promise<number> {
  await delay(2 * CALL_TIMEOUT_MS);
  return heapInUse();
}

t.test(`${run.cases} sessions end as they should, seed ${run.seed}`, async (t) => {
  const bodies = new Bodies(run.seed);
  await runAll(bodies, run.from, Math.min(run.to, run.from + WARM_UP_CASES));
  const before = await heapAtRest();
  const sum = await runAll(bodies, run.from, run.to);
  const grown = (await heapAtRest()) - before;
  t.comment(`${sum.values} successes, ${sum.errors} errors; the heap has grown by ${grown} bytes`);
  t.ok(run.cases === 1 || Math.min(sum.values, sum.errors) > run.cases / 4, 'some succeed, some fail');
  t.ok(grown < HEAP_GROWTH_MAX_BYTES, `the heap has grown by ${grown} bytes`);
});
