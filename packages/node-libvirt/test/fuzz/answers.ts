/**
 * What a hostile daemon answers: the right reply to each call, and then everything that can be wrong with it.
 */
import { MESSAGES, PROCEDURES, PROGRAMS, TYPES } from '../../src/protocol/schema.gen.ts';
import { type Frame, type Header, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { KEEPALIVE_PROGRAM, PING, PONG } from '../../src/rpc/keepalive.ts';
import type { Bodies } from './bodies.ts';
import { anyHeader, frameOf, spoilHeader } from './frames.ts';
import { mutate, randomWords } from './mutate.ts';
import type { Random } from './random.ts';

const EMPTY = Buffer.alloc(0);

/** Pings in one flood. */
const FLOOD_PINGS = 500;

/** Longest data packet that is made up. */
const PACKET_MAX_BYTES = 2_000;

/** Names of 8 bytes in a list that takes over 64 KiB. */
const LONG_LIST_MIN = 6_000;

/** A reply that is nothing but a list of names which may be that long. */
const NAMES_ONLY = /^names remote_nonnull_string<(16384|65536)>$/;

/** Procedures whose replies may be so long that they are decoded in slices. */
export const LONG_ANSWERED: readonly string[] = Object.entries(PROCEDURES).flatMap(([name, description]) => {
  const [, base = ''] = description.split(' ');
  return NAMES_ONLY.test(TYPES[`${base}_ret`] ?? '') ? [name] : [];
});

/** "program number" to the type of the reply, or null when there is none. */
const replyTypes = new Map(
  Object.values(PROCEDURES).map((description) => {
    const [program = '', base = '', number = '', has = ''] = description.split(' ');
    return [`${program} ${number}`, has.includes('r') ? `${base}_ret` : null];
  }),
);

const messages = Object.entries(MESSAGES);

type Answer = (call: Frame, bodies: Bodies, random: Random) => Buffer;

/** Each with its weight. The right reply is the most frequent, or no session would get beyond its first call. */
const ANSWERS: readonly (readonly [number, Answer])[] = [
  [60, rightReply],
  [8, refusal],
  [4, (call, bodies, random) => withBody(call, mutate(bodyOf(rightReply(call, bodies, random)), random))],
  [2, (call, bodies, random) => spoilHeader(rightReply(call, bodies, random), random)],
  [2, (call, bodies, random) => mutate(rightReply(call, bodies, random), random)],
  [2, twice],
  [
    2,
    (call, bodies, random) =>
      frameOf({ ...reply(call), procedure: random.below(460) }, bodyOf(rightReply(call, bodies, random))),
  ],
  [1, (call, _bodies, random) => frameOf({ ...reply(call), status: random.below(5) }, randomWords(random))],
  [1, (_call, _bodies, random) => frameOf(anyHeader(random), randomWords(random))],
  [1, (call, _bodies, random) => withBody(call, randomWords(random))],
  [4, descriptors],
  [4, message],
  [3, streamPacket],
  [2, pings],
  [1, (_call, _bodies, random) => randomWords(random)],
  [2, () => EMPTY],
];

const WEIGHTS_SUM = ANSWERS.reduce((sum, [weight]) => sum + weight, 0);

/** What is sent because of one call. */
export function answer(call: Frame, bodies: Bodies, random: Random): Buffer {
  let choice = random.below(WEIGHTS_SUM);
  for (const [weight, make] of ANSWERS) {
    if (choice < weight) return make(call, bodies, random);
    choice -= weight;
  }
  throw new Error('the weights do not add up');
}

/** The reply that libvirt would send, with made-up values. */
export function rightReply(call: Frame, bodies: Bodies, random: Random): Buffer {
  const program = call.program === PROGRAMS.remote ? 'remote' : 'qemu';
  const type = replyTypes.get(`${program} ${call.procedure}`);
  if (type == null) return withBody(call, EMPTY);
  const isLong = NAMES_ONLY.test(TYPES[type] ?? '') && random.percent(50);
  return withBody(call, isLong ? longListOfNames(random) : bodies.valid(type, random));
}

/** Long enough to be decoded in slices. */
function longListOfNames(random: Random): Buffer {
  const count = LONG_LIST_MIN + random.below(LONG_LIST_MIN);
  const bytes = Buffer.alloc(4 + count * 12, 'name-of-');
  bytes.writeUInt32BE(count);
  for (let index = 0; index < count; index++) bytes.writeUInt32BE(8, 4 + index * 12);
  return bytes;
}

function refusal(call: Frame, bodies: Bodies, random: Random): Buffer {
  const header = { ...reply(call), status: MessageStatus.error };
  const body = bodies.valid('remote_error', random);
  return frameOf(header, random.percent(80) ? body : mutate(body, random));
}

function twice(call: Frame, bodies: Bodies, random: Random): Buffer {
  const bytes = rightReply(call, bodies, random);
  return Buffer.concat([bytes, bytes]);
}

/** A reply with descriptors: their count, the body, and one byte for each of them after the frame, or too few. */
function descriptors(call: Frame, bodies: Bodies, random: Random): Buffer {
  const count = random.pick([0, 1, 2, 32, 33, random.word()]);
  const words = Buffer.alloc(4);
  words.writeUInt32BE(count);
  const status = random.pick([MessageStatus.ok, MessageStatus.error]);
  const header = { ...reply(call), type: MessageType.replyWithDescriptors, status };
  const dummies = Buffer.alloc(random.percent(80) ? Math.min(count, 32) : random.below(40));
  return Buffer.concat([
    frameOf(header, Buffer.concat([words, bodies.valid('remote_error', random)])),
    dummies,
  ]);
}

/** An event of any kind and for any callback, registered or not. */
function message(call: Frame, bodies: Bodies, random: Random): Buffer {
  const [key, [, base]] = random.pick(messages);
  const [program, number] = key.split(' ');
  const header: Header = {
    program: PROGRAMS[program as keyof typeof PROGRAMS],
    procedure: Number(number),
    type: MessageType.message,
    serial: 0,
    status: 0,
  };
  const body = bodies.valid(`${base}_msg`, random);
  const event = frameOf(header, random.percent(75) ? body : mutate(body, random));
  return Buffer.concat([event, rightReply(call, bodies, random)]);
}

/** Data, end, finish or error of a stream that may not be open, or be over. */
function streamPacket(call: Frame, bodies: Bodies, random: Random): Buffer {
  const status = random.pick([...Object.values(MessageStatus), random.below(6)]);
  const body = random.percent(30) ? EMPTY : Buffer.alloc(random.below(PACKET_MAX_BYTES), 'x');
  const serial = random.percent(80) ? call.serial : random.below(8);
  const packet = frameOf({ ...call, serial, type: MessageType.stream, status }, body);
  const bytes = rightReply(call, bodies, random);
  return Buffer.concat(random.percent(80) ? [bytes, packet, packet] : [packet, bytes]);
}

function pings(call: Frame, bodies: Bodies, random: Random): Buffer {
  const procedure = random.pick([PING, PONG, 3]);
  const header = { program: KEEPALIVE_PROGRAM, procedure, type: MessageType.message, serial: 0, status: 0 };
  const flood = Array.from({ length: 1 + random.below(FLOOD_PINGS) }, () => frameOf(header, EMPTY));
  return Buffer.concat([...flood, rightReply(call, bodies, random)]);
}

function reply(call: Frame): Header {
  return { ...call, type: MessageType.reply, status: MessageStatus.ok };
}

function withBody(call: Frame, body: Uint8Array): Buffer {
  return frameOf(reply(call), body);
}

function bodyOf(frame: Buffer): Buffer {
  return frame.subarray(28);
}
