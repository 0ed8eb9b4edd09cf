/**
 * Codecs for the types that the protocol's schema describes.
 *
 * Theory of operation: the schema is text (src/protocol/schema.gen.ts). A type's codec is made when it is first used,
 * out of the codecs of its parts, and kept. So a process that uses 40 of 450 procedures pays for those 40.
 *
 *   'dom remote_nonnull_domain;flags uint'  →  struct(dom → codecOf('remote_nonnull_domain'), flags → uint)
 *
 * A type that may be long (it holds a counted array) can also be decoded in slices, at every depth of it.
 *
 * Two types are written by hand: UUIDs are text for callers, and typed parameters (src/xdr/typed-param-codec.ts).
 */
import { LibvirtUsageError } from '../errors.ts';
import { TYPES } from '../protocol/schema.gen.ts';
import { uuidFromHex, uuidToBytes } from '../uuid.ts';
import { located, shown } from './argument-error.ts';
import type { XdrReader } from './reader.ts';
import type { Pacer } from './slices.ts';
import { typedParamCodec, typedParamsCodec } from './typed-param-codec.ts';
import type { XdrWriter } from './writer.ts';

/** Encodes and decodes one type. `encode` checks what it is given. */
export interface Codec {
  encode(writer: XdrWriter, value: unknown): void;
  decode(reader: XdrReader): unknown;
  /** As `decode`, with pauses. A type without it is short. */
  decodeInSlices?(reader: XdrReader, pacer: Pacer): Promise<unknown>;
}

/** Name of the type that typed parameters have in the protocol. */
const TYPED_PARAM = 'remote_typed_param';

const codecs = new Map<string, Codec>([
  ['int', { encode: (w, v) => w.int(v), decode: (r) => r.int() }],
  ['uint', { encode: (w, v) => w.uint(v), decode: (r) => r.uint() }],
  ['hyper', { encode: (w, v) => w.hyper(v), decode: (r) => r.hyper() }],
  ['uhyper', { encode: (w, v) => w.uhyper(v), decode: (r) => r.uhyper() }],
  ['double', { encode: (w, v) => w.double(v), decode: (r) => r.double() }],
  ['remote_uuid', { encode: (w, v) => w.fixed(uuidToBytes(v), 16), decode: (r) => uuidFromHex(r.hex(16)) }],
  [TYPED_PARAM, typedParamCodec],
]);

/**
 * The codec of a type in the schema.
 *
 * @throws {Error} The schema has no such type: a mistake in this library.
 */
export function codecOf(name: string): Codec {
  const known = codecs.get(name);
  if (known !== undefined) return known;
  const description = TYPES[name];
  if (description === undefined) throw new Error(`the protocol has no type ${name}`);
  const made = description.startsWith('=') ? layoutCodec(description.slice(1)) : structCodec(description);
  codecs.set(name, made);
  return made;
}

/** `?type`, `type<max>`, `type[count]` or `type`. */
function layoutCodec(layout: string): Codec {
  if (layout.startsWith('?')) return optionalCodec(codecOf(layout.slice(1)));
  const [, type = '', bracket, digits] = /^(\w+)(?:([<[])(\d+)[>\]])?$/.exec(layout) ?? [];
  const size = Number(digits);
  if (type === 'string') return { encode: (w, v) => w.string(v, size), decode: (r) => r.string(size) };
  if (type === 'opaque') return bracket === '<' ? opaqueCodec(size) : fixedCodec(size);
  if (type === 'chars') return charsCodec(bracket === '<' ? 'counted' : 'fixed', size);
  if (bracket === undefined) return codecOf(type);
  if (bracket === '[') return vectorCodec(codecOf(type), size);
  const array = countedCodec(codecOf(type), size);
  return type === TYPED_PARAM ? typedParamsCodec(array, size) : array;
}

function structCodec(description: string): Codec {
  const names: string[] = [];
  const parts: Codec[] = [];
  for (const field of description.split(';')) {
    const [name = '', layout = ''] = field.split(' ');
    names.push(name);
    parts.push(layoutCodec(layout));
  }
  const codec: Codec = {
    encode: (w, v) => encodeStruct(w, v, names, parts),
    decode: (r) => decodeStruct(r, names, parts),
  };
  if (parts.some((part) => part.decodeInSlices))
    codec.decodeInSlices = (r, pacer) => decodeStructInSlices(r, names, parts, pacer);
  return codec;
}

function encodeStruct(writer: XdrWriter, value: unknown, names: string[], parts: Codec[]): void {
  if (typeof value !== 'object' || value === null)
    throw new LibvirtUsageError(`expected an object with ${names.join(', ')}, got ${shown(value)}`);
  for (const [index, name] of names.entries()) {
    try {
      parts[index]?.encode(writer, (value as Record<string, unknown>)[name]);
    } catch (error) {
      throw located(error, name);
    }
  }
}

function decodeStruct(reader: XdrReader, names: string[], parts: Codec[]): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (let index = 0; index < names.length; index++) object[names[index]!] = parts[index]!.decode(reader);
  return object;
}

async function decodeStructInSlices(
  reader: XdrReader,
  names: string[],
  parts: Codec[],
  pacer: Pacer,
): Promise<Record<string, unknown>> {
  const object: Record<string, unknown> = {};
  for (let index = 0; index < names.length; index++) {
    const part = parts[index]!;
    object[names[index]!] = part.decodeInSlices
      ? await part.decodeInSlices(reader, pacer)
      : part.decode(reader);
  }
  return object;
}

function optionalCodec(inner: Codec): Codec {
  return {
    encode(writer, value) {
      const present = value !== null && value !== undefined;
      writer.uint(present ? 1 : 0);
      if (present) inner.encode(writer, value);
    },
    decode: (reader) => (reader.present() ? inner.decode(reader) : null),
  };
}

function countedCodec(inner: Codec, max: number): Codec {
  return {
    encode(writer, value) {
      const list = asArray(value);
      const count = list.length;
      if (count > max) throw new LibvirtUsageError(`${count} elements, at most ${max} are allowed`);
      writer.uint(count);
      encodeElements(writer, inner, list, count);
    },
    decode: (reader) => decodeElements(reader, inner, reader.count(max)),
    decodeInSlices: (reader, pacer) => decodeElementsInSlices(reader, inner, reader.count(max), pacer),
  };
}

function vectorCodec(inner: Codec, count: number): Codec {
  return {
    encode(writer, value) {
      const list = asArray(value);
      if (list.length !== count)
        throw new LibvirtUsageError(`${list.length} elements, exactly ${count} are needed`);
      encodeElements(writer, inner, list, count);
    },
    decode: (reader) => decodeElements(reader, inner, count),
  };
}

/** A C string in an array of char, each of which takes four bytes. Only replies have them. */
function charsCodec(shape: 'counted' | 'fixed', size: number): Codec {
  const int = codecOf('int');
  const inner = shape === 'counted' ? countedCodec(int, size) : vectorCodec(int, size);
  return {
    encode(writer, value) {
      const chars = [...Buffer.from(asText(value)), 0];
      inner.encode(writer, shape === 'fixed' ? [...chars, ...Array(size).fill(0)].slice(0, size) : chars);
    },
    decode(reader) {
      const chars = inner.decode(reader) as number[];
      const end = chars.indexOf(0);
      return Buffer.from(end < 0 ? chars : chars.slice(0, end)).toString('utf8');
    },
  };
}

function asText(value: unknown): string {
  if (typeof value !== 'string') throw new LibvirtUsageError(`expected a string, got ${shown(value)}`);
  return value;
}

function asArray(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new LibvirtUsageError(`expected an array, got ${shown(value)}`);
  return value;
}

/** @param count The list's length, as it was sent: the list may be changed by what is read from it. */
function encodeElements(writer: XdrWriter, inner: Codec, list: readonly unknown[], count: number): void {
  let index = 0;
  try {
    for (; index < count; index++) inner.encode(writer, list[index]);
  } catch (error) {
    throw located(error, `[${index}]`);
  }
}

function decodeElements(reader: XdrReader, inner: Codec, count: number): unknown[] {
  const list: unknown[] = [];
  for (let index = 0; index < count; index++) list.push(inner.decode(reader));
  return list;
}

async function decodeElementsInSlices(
  reader: XdrReader,
  inner: Codec,
  count: number,
  pacer: Pacer,
): Promise<unknown[]> {
  const list: unknown[] = [];
  for (let index = 0; index < count; index++) {
    list.push(inner.decodeInSlices ? await inner.decodeInSlices(reader, pacer) : inner.decode(reader));
    if (pacer.isDue(reader.position)) await pacer.pause();
  }
  return list;
}

function opaqueCodec(max: number): Codec {
  return { encode: (w, v) => w.opaque(v, max), decode: (r) => r.opaque(max) };
}

function fixedCodec(bytes: number): Codec {
  return { encode: (w, v) => w.fixed(v, bytes), decode: (r) => r.fixed(bytes) };
}
