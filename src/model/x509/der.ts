/**
 * DER: the few ASN.1 types that a certificate and its request are made of, written and read. Pure.
 *
 * Reading takes nothing for granted: a length beyond the bytes there are, one that is not the shortest, or bytes left
 * over, are errors. Only what fits in memory anyway is read, and nothing is nested by it.
 *
 * @see ITU-T X.690
 */
import { AgentError } from '../errors.ts';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Of length octets that are read: 16 MiB, far more than any certificate has. */
const LENGTH_OCTETS_LIMIT = 3;
/** UTCTime is for years before this one. @see RFC 5280, 4.1.2.5 */
const FIRST_GENERALIZED_YEAR = 2050;

export function tlv(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([Buffer.from([tag]), lengthOf(content.length), content]);
}

export function sequence(...items: readonly Uint8Array[]): Buffer {
  return tlv(TAG.sequence, ...items);
}

/** A number that is not negative, as its bytes. */
export function integer(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const short = first === -1 ? Buffer.from([0]) : Buffer.from(bytes.subarray(first));
  return tlv(TAG.integer, (short[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), short]) : short);
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return tlv(TAG.bitString, Buffer.from([unusedBits]), bytes);
}

/** @param text Such as 1.2.840.10045.4.3.2 */
export function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  return tlv(TAG.oid, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

/** A time, in whole seconds. */
export function time(ms: number): Buffer {
  const text = new Date(ms).toISOString();
  const digits = text.replace(/\.\d+Z$/, 'Z').replaceAll(/[-:T]/g, '');
  const isLate = Number(text.slice(0, 4)) >= FIRST_GENERALIZED_YEAR;
  return isLate
    ? tlv(TAG.generalizedTime, Buffer.from(digits, 'latin1'))
    : tlv(TAG.utcTime, Buffer.from(digits.slice(2), 'latin1'));
}

/** `[n]` with items in it. */
export function contextItems(n: number, ...items: readonly Uint8Array[]): Buffer {
  return tlv(0xa0 | n, ...items);
}

/** `[n] IMPLICIT` of something plain. */
export function contextBytes(n: number, bytes: Uint8Array): Buffer {
  return tlv(0x80 | n, bytes);
}

export interface Element {
  tag: number;
  content: Buffer;
  /** With tag and length, as for a signature over it. */
  whole: Buffer;
}

/** @throws {AgentError} INVALID_ARGUMENT: it is not exactly one element. */
export function readOne(bytes: Buffer, tag: number): Element {
  const [element, ...others] = readAll(bytes);
  if (element === undefined || others.length > 0 || element.tag !== tag)
    throw malformed('not the one element');
  return element;
}

/** The elements that lie one after the other. @throws {AgentError} INVALID_ARGUMENT */
export function readAll(bytes: Buffer): Element[] {
  const elements: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    const element = readAt(bytes, at);
    elements.push(element);
    at += element.whole.length;
  }
  return elements;
}

function readAt(bytes: Buffer, at: number): Element {
  const { length, octets } = readLength(bytes.subarray(at + 1));
  const start = at + 1 + octets;
  const end = start + length;
  if (end > bytes.length) throw malformed('it ends too early');
  return { tag: bytes[at] as number, content: bytes.subarray(start, end), whole: bytes.subarray(at, end) };
}

function readLength(bytes: Buffer): { length: number; octets: number } {
  const first = bytes[0];
  if (first === undefined) throw malformed('a length is missing');
  if (first < 0x80) return { length: first, octets: 1 };
  const count = first & 0x7f;
  if (count === 0 || count > LENGTH_OCTETS_LIMIT || bytes.length < 1 + count)
    throw malformed('a wrong length');
  const length = bytes.readUIntBE(1, count);
  if (lengthOf(length).length !== 1 + count) throw malformed('a length that is not the shortest');
  return { length, octets: 1 + count };
}

function lengthOf(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  const bytes: number[] = [];
  for (let left = length; left > 0; left = Math.floor(left / 256)) bytes.unshift(left % 256);
  return Buffer.from([0x80 | bytes.length, ...bytes]);
}

function base128(value: number): number[] {
  const bytes = [value % 128];
  for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128)) {
    bytes.unshift((left % 128) | 0x80);
  }
  return bytes;
}

function malformed(reason: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `Not DER: ${reason}`);
}
