/**
 * Codecs for the types that the protocol's schema describes.
 *
 * Theory of operation: the schema is text (src/protocol/schema.gen.ts). A type's codec is made when it is first used,
 * out of the codecs of its parts, and kept. So a process that uses 40 of 450 procedures pays for those 40.
 *
 *   'dom remote_nonnull_domain;flags uint'  →  struct(dom → codecOf('remote_nonnull_domain'), flags → uint)
 *
 * Two types are written by hand: UUIDs are text for callers, and typed parameters are `{ field, type, value }`.
 */
import { LibvirtUsageError } from '../errors.ts';
import { TYPES } from '../protocol/schema.gen.ts';
import {
  exact,
  TYPED_PARAM_TYPES,
  type TypedParam,
  type TypedParamType,
  type TypedValue,
} from '../typed-params.ts';
import { uuidFromBytes, uuidToBytes } from '../uuid.ts';
import { XdrError, type XdrReader } from './reader.ts';
import type { XdrWriter } from './writer.ts';

/** Encodes and decodes one type. `encode` checks what it is given. */
export interface Codec {
  encode(writer: XdrWriter, value: unknown): void;
  decode(reader: XdrReader): unknown;
}

/** Longest name of a typed parameter and longest string in one. @see REMOTE_STRING_MAX, remote_protocol.x */
const STRING_MAX_BYTES = 4_194_304;

const codecs = new Map<string, Codec>([
  ['int', { encode: (w, v) => w.int(v), decode: (r) => r.int() }],
  ['uint', { encode: (w, v) => w.uint(v), decode: (r) => r.uint() }],
  ['hyper', { encode: (w, v) => w.hyper(v), decode: (r) => r.hyper() }],
  ['uhyper', { encode: (w, v) => w.uhyper(v), decode: (r) => r.uhyper() }],
  ['double', { encode: (w, v) => w.double(v), decode: (r) => r.double() }],
  [
    'remote_uuid',
    { encode: (w, v) => w.fixed(uuidToBytes(v), 16), decode: (r) => uuidFromBytes(r.fixed(16)) },
  ],
  ['remote_typed_param', { encode: encodeTypedParam, decode: decodeTypedParam }],
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
  if (bracket === undefined) return codecOf(type);
  return bracket === '<' ? countedCodec(codecOf(type), size) : vectorCodec(codecOf(type), size);
}

function structCodec(description: string): Codec {
  const names: string[] = [];
  const parts: Codec[] = [];
  for (const field of description.split(';')) {
    const [name = '', layout = ''] = field.split(' ');
    names.push(name);
    parts.push(layoutCodec(layout));
  }
  return { encode: (w, v) => encodeStruct(w, v, names, parts), decode: (r) => decodeStruct(r, names, parts) };
}

function encodeStruct(writer: XdrWriter, value: unknown, names: string[], parts: Codec[]): void {
  if (typeof value !== 'object' || value === null)
    throw new LibvirtUsageError(`expected an object with ${names}`);
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

/** Puts the name of the field in front of what was wrong with it. */
function located(error: unknown, name: string): unknown {
  return error instanceof LibvirtUsageError ? new LibvirtUsageError(`${name}: ${error.message}`) : error;
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
      if (list.length > max)
        throw new LibvirtUsageError(`${list.length} elements, at most ${max} are allowed`);
      writer.uint(list.length);
      for (const element of list) inner.encode(writer, element);
    },
    decode: (reader) => decodeElements(reader, inner, reader.count(max)),
  };
}

function vectorCodec(inner: Codec, count: number): Codec {
  return {
    encode(writer, value) {
      const list = asArray(value);
      if (list.length !== count)
        throw new LibvirtUsageError(`${list.length} elements, exactly ${count} are needed`);
      for (const element of list) inner.encode(writer, element);
    },
    decode: (reader) => decodeElements(reader, inner, count),
  };
}

function asArray(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new LibvirtUsageError(`expected an array, got ${typeof value}`);
  return value;
}

function decodeElements(reader: XdrReader, inner: Codec, count: number): unknown[] {
  const list: unknown[] = [];
  for (let index = 0; index < count; index++) list.push(inner.decode(reader));
  return list;
}

function opaqueCodec(max: number): Codec {
  return { encode: (w, v) => w.opaque(v, max), decode: (r) => r.opaque(max) };
}

function fixedCodec(bytes: number): Codec {
  return { encode: (w, v) => w.fixed(v, bytes), decode: (r) => r.fixed(bytes) };
}

function encodeTypedParam(writer: XdrWriter, value: unknown): void {
  if (typeof value !== 'object' || value === null) throw new LibvirtUsageError('expected a typed parameter');
  const param = value as Partial<TypedParam>;
  const tag = TYPED_PARAM_TYPES.indexOf(param.type as TypedParamType) + 1;
  if (tag === 0)
    throw new LibvirtUsageError(`typed parameter ${param.field} has the unknown type ${param.type}`);
  writer.string(param.field, STRING_MAX_BYTES);
  writer.int(tag);
  try {
    typedValueEncoders[TYPED_PARAM_TYPES[tag - 1]!](writer, param.value);
  } catch (error) {
    throw located(error, String(param.field));
  }
}

const typedValueEncoders: Record<TypedParamType, (writer: XdrWriter, value: unknown) => void> = {
  int: (w, v) => w.int(v),
  uint: (w, v) => w.uint(v),
  llong: (w, v) => w.hyper(v),
  ullong: (w, v) => w.uhyper(v),
  double: (w, v) => w.double(v),
  boolean: (w, v) => w.int(booleanToInt(v)),
  string: (w, v) => w.string(v, STRING_MAX_BYTES),
};

function booleanToInt(value: unknown): number {
  if (typeof value !== 'boolean') throw new LibvirtUsageError(`expected a boolean, got ${typeof value}`);
  return value ? 1 : 0;
}

function decodeTypedParam(reader: XdrReader): TypedParam {
  const field = reader.string(STRING_MAX_BYTES);
  const tag = reader.int();
  const type = TYPED_PARAM_TYPES[tag - 1];
  if (type === undefined) throw new XdrError(`typed parameter has the unknown type ${tag}`);
  return { field, type, value: decodeTypedValue(reader, type) };
}

function decodeTypedValue(reader: XdrReader, type: TypedParamType): TypedValue {
  switch (type) {
    case 'int':
      return reader.int();
    case 'uint':
      return reader.uint();
    case 'llong':
      return exact(reader.hyper());
    case 'ullong':
      return exact(reader.uhyper());
    case 'double':
      return reader.double();
    case 'boolean':
      return reader.int() !== 0;
    case 'string':
      return reader.string(STRING_MAX_BYTES);
    default:
      return type satisfies never;
  }
}
