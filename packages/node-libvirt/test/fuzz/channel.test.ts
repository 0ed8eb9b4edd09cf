/**
 * Channels against a daemon that answers with anything: every call is settled, with the reply that was sent for it or
 * with a typed error; the end of a channel is told once; and a stream hears nothing that makes no sense.
 */
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { LibvirtError, LibvirtTransportError } from '../../src/errors.ts';
import { PROCEDURES } from '../../src/protocol/schema.gen.ts';
import { Channel } from '../../src/rpc/channel.ts';
import { type Frame, HEADER_BYTES, type Header, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import type { StreamSink } from '../../src/rpc/stream-link.ts';
import { MemoryDaemon } from '../support/memory-daemon.ts';
import { answer, LONG_ANSWERED } from './answers.ts';
import { Bodies } from './bodies.ts';
import { pieces } from './mutate.ts';
import type { Random } from './random.ts';
import { failure, heapInUse, plannedRun, randomOf } from './run.ts';
import { ARGUMENTS } from './shape.ts';
import { CASES, CASES_TOTAL } from './shares.ts';
import { synthesise } from './synthesise.ts';

const CALLS_MAX = 4;
/** Of a hundred calls, so many have a reply that takes several turns of the event loop to decode. */
const LONG_SHARE = 10;

/** Turns of the event loop before the channel is closed, perhaps in the middle of a reply. */
const TURNS_MAX = 3;

const HEAP_GROWTH_MAX_BYTES = 6_000_000;
const WARM_UP_CASES = 2_000;

/** What a call may end with when the daemon lies or goes. */
const KINDS = ['protocol', 'closed', 'descriptors', 'aborted'];

const run = plannedRun(CASES.channel, CASES_TOTAL);
const procedureNames = Object.keys(PROCEDURES);
const argumentTypes = new Map(ARGUMENTS.map(({ name, type }) => [name, type]));

/** Takes what a stream is told, and notices what must not come. */
class WatchfulSink implements StreamSink {
  #state: 'open' | 'ended' | 'over' = 'open';
  mistake: string | null = null;

  data(bytes: Buffer): boolean {
    if (bytes.length === 0) this.mistake = 'data without bytes';
    return this.#expect('data', ['open']);
  }

  hole(length: bigint): boolean {
    if (length < 0n) this.mistake = `a hole of ${length} bytes`;
    return this.#expect('hole', ['open']);
  }

  ended(): void {
    this.#expect('ended', ['open', 'ended']);
    this.#state = 'ended';
  }

  finished(): void {
    this.#expect('finished', ['open', 'ended']);
    this.#state = 'over';
  }

  failed(error: Error): void {
    if (!isTyped(error)) this.mistake = `failed with ${error}`;
    this.#state = 'over';
  }

  #expect(what: string, states: string[]): boolean {
    if (!states.includes(this.#state)) this.mistake = `${what} when the stream is ${this.#state}`;
    return true;
  }
}

interface Call {
  name: string;
  request: Frame;
  outcome: { value: unknown } | { error: unknown } | null;
}

/** One channel, its daemon, and what has become of the calls. */
class Session {
  readonly daemon = new MemoryDaemon();
  readonly sink = new WatchfulSink();
  readonly calls: Call[] = [];
  readonly sent: Buffer[] = [];
  closes = 0;
  #channel: Channel | null = null;

  async open(): Promise<Channel> {
    this.#channel = await Channel.connect({
      transport: this.daemon.transport,
      keepalive: false,
      signal: new AbortController().signal,
      onMessage: () => {},
      onClose: () => this.closes++,
    });
    return this.#channel;
  }

  call(name: string, args: unknown, signal: AbortSignal | undefined): void {
    const channel = this.#channel!;
    const promise = opensStream(name)
      ? channel.openStream(name, args, this.sink, { signal })
      : channel.call(name, args, { signal });
    const request = this.daemon.received.at(-1)!;
    const call: Call = { name, request, outcome: null };
    this.calls.push(call);
    promise.then(
      (value) => (call.outcome = { value }),
      (error: unknown) => (call.outcome = { error }),
    );
  }

  send(bytes: Buffer, random: Random): void {
    this.sent.push(bytes);
    for (const piece of pieces(bytes, random)) this.daemon.send(piece);
  }
}

function opensStream(name: string): boolean {
  return /[<>]/.test(PROCEDURES[name] ?? '');
}

function isTyped(error: unknown): boolean {
  if (error instanceof LibvirtTransportError) return KINDS.includes(error.kind);
  return error instanceof LibvirtError;
}

/** The frames among the sent bytes, as far as they are frames; read here without the parser under test. */
function framesIn(sent: readonly Buffer[]): Header[] {
  const bytes = Buffer.concat(sent);
  const frames: Header[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const word = (index: number) => bytes.readUInt32BE(at + index * 4);
    const header = { program: word(1), procedure: word(3), type: word(4), serial: word(5), status: word(6) };
    frames.push(header);
    const hasDescriptors = header.type === MessageType.replyWithDescriptors && word(0) >= HEADER_BYTES + 4;
    const length = Math.max(word(0), HEADER_BYTES);
    at += length + (hasDescriptors && at + HEADER_BYTES + 4 <= bytes.length ? word(7) : 0);
  }
  return frames;
}

/** Whether the daemon has sent what this call ended with. */
function wasSent(call: Call, frames: readonly Header[]): boolean {
  const { outcome, request } = call;
  if (outcome === null) return false;
  if ('error' in outcome && !(outcome.error instanceof LibvirtError)) return true;
  const status = 'error' in outcome ? MessageStatus.error : MessageStatus.ok;
  return frames.some(
    (frame) =>
      frame.serial === request.serial &&
      frame.procedure === request.procedure &&
      frame.program === request.program &&
      frame.status === status,
  );
}

function check(session: Session): void {
  const frames = framesIn(session.sent);
  for (const call of session.calls) {
    if (call.outcome === null) throw new Error(`${call.name} was never settled`);
    if ('error' in call.outcome && !isTyped(call.outcome.error))
      throw new Error(`${call.name} failed with ${call.outcome.error}`, { cause: call.outcome.error });
    if (!wasSent(call, frames)) throw new Error(`${call.name} ended with what was not sent for it`);
  }
  if (session.sink.mistake !== null) throw new Error(session.sink.mistake);
  if (session.closes !== 1) throw new Error(`the end of the channel was told ${session.closes} times`);
}

/** Calls, answers, and the end. @returns Whether the channel had to be closed from here. */
async function play(session: Session, bodies: Bodies, random: Random): Promise<boolean> {
  const channel = await session.open();
  const abort = new AbortController();
  let streams = 0;
  for (let left = 1 + random.below(CALLS_MAX); left > 0; left--) {
    const name = random.pick(random.percent(LONG_SHARE) ? LONG_ANSWERED : procedureNames);
    if (opensStream(name) && ++streams > 1) continue;
    const type = argumentTypes.get(name);
    session.call(name, type && synthesise(type, random), random.percent(10) ? abort.signal : undefined);
  }
  if (random.percent(10)) abort.abort();
  for (const { request } of [...session.calls].sort(() => random.below(3) - 1))
    session.send(answer(request, bodies, random), random);
  for (let turns = 1 + random.below(TURNS_MAX); turns > 0; turns--) await turn();
  const isAlive = !channel.isClosed;
  channel.close();
  await turn();
  return isAlive;
}

async function runCase(bodies: Bodies, index: number): Promise<boolean> {
  const session = new Session();
  try {
    const isAlive = await play(session, bodies, randomOf(run, index));
    check(session);
    return isAlive;
  } catch (error) {
    const calls = session.calls.map(({ name, request }) => `${name}#${request.serial}`);
    const sent = session.sent.map((bytes) => bytes.toString('hex')).join(' ');
    throw failure(run, index, `calls ${calls}, sent ${sent}`, error);
  }
}

t.test(`${run.cases} channels settle every call, seed ${run.seed}`, async (t) => {
  const bodies = new Bodies(run.seed);
  for (let index = run.from; index < Math.min(run.to, run.from + WARM_UP_CASES); index++)
    await runCase(bodies, index);
  const before = heapInUse();
  let alive = 0;
  for (let index = run.from; index < run.to; index++) if (await runCase(bodies, index)) alive++;
  const grown = heapInUse() - before;
  t.comment(
    `${alive} channels lived on, ${run.cases - alive} were closed; the heap has grown by ${grown} bytes`,
  );
  t.ok(run.cases === 1 || (alive > run.cases / 10 && alive < run.cases), 'some live on, some are closed');
  t.ok(grown < HEAP_GROWTH_MAX_BYTES, `the heap has grown by ${grown} bytes`);
});
