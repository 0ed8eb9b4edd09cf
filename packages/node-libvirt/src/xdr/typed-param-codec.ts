/**
 * Codecs for typed parameters: one as `{ field, type, value }`, and a counted array of them, which a reader gives as a list
 * of those or, when it is told so, as one plain object at once.
 *
 * Statistics of a thousand domains are tens of thousands of parameters with few names among them, so a name that stands
 * at the same place as in the array before is not made anew.
 */
import { LibvirtUsageError } from '../errors.ts';
import {
  TYPED_PARAM_TYPES,
  type TypedParam,
  type TypedParams,
  type TypedParamType,
  type TypedValue,
} from '../typed-params.ts';
import { located, shown } from './argument-error.ts';
import type { Codec } from './codec.ts';
import { XdrError, type XdrReader } from './reader.ts';
import type { XdrWriter } from './writer.ts';

/** Longest name of a typed parameter and longest string in one. @see REMOTE_STRING_MAX, remote_protocol.x */
const STRING_MAX_BYTES = 4_194_304;

/** One typed parameter. */
export const typedParamCodec: Codec = {
  encode: encodeTypedParam,
  decode(reader) {
    const field = reader.string(STRING_MAX_BYTES);
    return decodeTypedParam(reader, field);
  },
};

/** A counted array of typed parameters. @param array The same as any other array, for what is sent. */
export function typedParamsCodec(array: Codec, max: number): Codec {
  return {
    encode: array.encode,
    decode(reader) {
      const collection = collectionFor(reader);
      const count = reader.count(max);
      for (let index = 0; index < count; index++) takeOne(reader, index, collection);
      return collection;
    },
    async decodeInSlices(reader, pacer) {
      const collection = collectionFor(reader);
      const count = reader.count(max);
      for (let index = 0; index < count; index++) {
        takeOne(reader, index, collection);
        if (pacer.isDue(reader.position)) await pacer.pause();
      }
      return collection;
    },
  };
}

function collectionFor(reader: XdrReader): TypedParam[] | TypedParams {
  return reader.typedParams === 'list' ? [] : {};
}

function takeOne(reader: XdrReader, index: number, collection: TypedParam[] | TypedParams): void {
  const field = nameAt(reader, index);
  if (Array.isArray(collection)) collection.push(decodeTypedParam(reader, field));
  else addTo(collection, field, decodeTypedValue(reader, decodeType(reader)));
}

function nameAt(reader: XdrReader, index: number): string {
  const name = reader.stringLike(reader.names[index], STRING_MAX_BYTES);
  reader.names[index] = name;
  return name.text;
}

/** A name that repeats keeps its last value. */
function addTo(object: TypedParams, field: string, value: TypedValue): void {
  if (field === '__proto__')
    Object.defineProperty(object, field, { value, enumerable: true, configurable: true, writable: true });
  else object[field] = value;
}

function encodeTypedParam(writer: XdrWriter, value: unknown): void {
  if (typeof value !== 'object' || value === null)
    throw new LibvirtUsageError(`expected a typed parameter, got ${shown(value)}`);
  const { field, type } = value as { field: unknown; type: unknown };
  const tag = TYPED_PARAM_TYPES.indexOf(type as TypedParamType) + 1;
  if (tag === 0)
    throw new LibvirtUsageError(`typed parameter ${shown(field)} has the unknown type ${shown(type)}`);
  writer.string(field, STRING_MAX_BYTES);
  writer.int(tag);
  try {
    typedValueEncoders[TYPED_PARAM_TYPES[tag - 1]!](writer, (value as { value: unknown }).value);
  } catch (error) {
    throw located(error, String(field));
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
  if (typeof value !== 'boolean') throw new LibvirtUsageError(`expected a boolean, got ${shown(value)}`);
  return value ? 1 : 0;
}

function decodeTypedParam(reader: XdrReader, field: string): TypedParam {
  const type = decodeType(reader);
  return { field, type, value: decodeTypedValue(reader, type) };
}

function decodeType(reader: XdrReader): TypedParamType {
  const tag = reader.int();
  const type = TYPED_PARAM_TYPES[tag - 1];
  if (type === undefined) throw new XdrError(`typed parameter has the unknown type ${tag}`);
  return type;
}

function decodeTypedValue(reader: XdrReader, type: TypedParamType): TypedValue {
  switch (type) {
    case 'int':
      return reader.int();
    case 'uint':
      return reader.uint();
    case 'llong':
      return reader.hyper();
    case 'ullong':
      return reader.uhyper();
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
