/**
 * What NBD says on the wire, as far as our client speaks it: pure.
 *
 * @see the NBD protocol, doc/proto.md of NetworkBlockDevice/nbd
 */
import { AgentError } from '../../model/errors.ts';

const INIT_MAGIC = Buffer.from('NBDMAGIC');
const OPTION_MAGIC = Buffer.from('IHAVEOPT');
/** NBD_FLAG_C_FIXED_NEWSTYLE and NBD_FLAG_C_NO_ZEROES. */
const CLIENT_FLAGS = 3;
export const GREETING_BYTES = 18;
export const OPTION = { go: 7, structuredReply: 8, setMetaContext: 10 } as const;
export const OPTION_REPLY = { ack: 1, info: 3, metaContext: 4 } as const;
export const OPTION_REPLY_BYTES = 20;
/** NBD_INFO_EXPORT: what it is, and how large. */
export const INFO_EXPORT = 0;

const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** Of a simple reply, and the beginning of a structured one. */
export const REPLY_BYTES = 16;
export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  writeZeroes: 6,
  blockStatus: 7,
} as const;
/** NBD_REPLY_FLAG_DONE: the last part of an answer. */
export const DONE = 1;
export const CHUNK = { none: 0, data: 1, hole: 2, blockStatus: 5 } as const;
/** From here on they are errors. */
export const CHUNK_ERRORS = 32_768;
/** NBD_STATE_ZERO of `base:allocation`. */
export const STATE_ZERO = 2;
/** NBD_STATE_DIRTY of `qemu:dirty-bitmap:NAME`. @see docs/interop/nbd.txt, QEMU */
export const STATE_DIRTY = 1;
/** NBD_ENOSPC. */
const ENOSPC = 28;

export function clientFlags(): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(CLIENT_FLAGS);
  return bytes;
}

export function option(code: number, data: Buffer): Buffer {
  const head = Buffer.alloc(16);
  OPTION_MAGIC.copy(head);
  head.writeUInt32BE(code, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

/** The export without a name, and no questions. */
export function goData(): Buffer {
  return Buffer.alloc(6);
}

/** One context of the export without a name. */
export function metaContextData(context: string): Buffer {
  return Buffer.concat([u32(0), u32(1), u32(Buffer.byteLength(context)), Buffer.from(context)]);
}

export function request(command: number, handle: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeUInt32BE(handle, 12);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

export function isGreeting(bytes: Buffer): boolean {
  return bytes.subarray(0, 16).equals(Buffer.concat([INIT_MAGIC, OPTION_MAGIC]));
}

export function failure(error: number): AgentError {
  const code = error === ENOSPC ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE';
  return new AgentError(code, `The server of a disk answers with error ${error}`);
}

export function strange(what: string): AgentError {
  return new AgentError('UNAVAILABLE', `The server of a disk does not speak NBD: ${what} is strange`);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
