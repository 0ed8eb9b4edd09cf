/** Whole frames for the parser and for connections: valid ones, and ones whose headers and lengths lie. */
import { PROCEDURES, PROGRAMS } from '../../src/protocol/schema.gen.ts';
import { HEADER_BYTES, type Header, MessageStatus, MessageType } from '../../src/rpc/framing.ts';
import { KEEPALIVE_PROGRAM } from '../../src/rpc/keepalive.ts';
import { cruelWord } from './mutate.ts';
import type { Random } from './random.ts';

const WORDS_IN_HEADER = 7;
const TYPES = Object.values(MessageType);
const STATUSES = Object.values(MessageStatus);
const PROGRAM_NUMBERS = [PROGRAMS.remote, PROGRAMS.remote, PROGRAMS.qemu, KEEPALIVE_PROGRAM];
const PROCEDURES_MAX = Object.keys(PROCEDURES).length + 20;

/** A frame with the right length and version. */
export function frameOf(header: Header, body: Uint8Array): Buffer {
  const { program, procedure, type, serial, status } = header;
  const frame = Buffer.alloc(HEADER_BYTES + body.length);
  const words = [frame.length, program, 1, procedure, type, serial, status];
  for (const [index, word] of words.entries()) frame.writeUInt32BE(word >>> 0, index * 4);
  frame.set(body, HEADER_BYTES);
  return frame;
}

/** A header that could be one, of whatever there is. */
export function anyHeader(random: Random): Header {
  return {
    program: random.pick(PROGRAM_NUMBERS),
    procedure: random.below(PROCEDURES_MAX),
    type: random.pick(TYPES),
    serial: random.below(8),
    status: random.pick(STATUSES),
  };
}

/** Overwrites one word of the header: length, program, version, procedure, type, serial or status. */
export function spoilHeader(frame: Buffer, random: Random): Buffer {
  const spoilt = Buffer.from(frame);
  spoilt.writeUInt32BE(cruelWord(random), random.below(WORDS_IN_HEADER) * 4);
  return spoilt;
}
