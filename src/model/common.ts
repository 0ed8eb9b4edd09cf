/**
 * Schemas that every noun is built from: names, ids, times, sizes, and the fence of a command.
 */
import { type Static, type TProperties, type TSchema, Type } from './schema.ts';

/** Most items in one listing or list parameter; a caller pages beyond it. */
export const LIST_LIMIT = 1000;

/** An object that refuses keys it does not know. */
export function strict<P extends TProperties>(properties: P, options: { description?: string } = {}) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

export function nullable<S extends TSchema>(schema: S, description?: string) {
  return Type.Union([schema, Type.Null()], description === undefined ? {} : { description });
}

/** A name is also part of file, domain and host names: so it is a DNS label, and never a path or shell text. */
export const Name = Type.String({
  pattern: '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$',
  description: '1 to 40 of a-z, 0-9 and -, not beginning or ending with -',
});

export const Id = Type.String({ format: 'uuid', description: 'UUID, lower case' });

/** Where a caller may give either. */
export const NameOrId = Type.String({
  pattern: '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$',
  description: 'name or UUID, lower case',
});

export const Timestamp = Type.String({ description: 'RFC 3339, UTC, milliseconds' });

/** A time, with a word on which. */
export function timestampOf(what: string) {
  return Type.String({ description: `${what}; RFC 3339, UTC, milliseconds` });
}

export const MacAddress = Type.String({
  pattern: '^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$',
  description: 'unicast MAC address, lower case, colons',
});

export const Ipv4Address = Type.String({
  pattern: '^((25[0-5]|2[0-4]\\d|1?\\d?\\d)(\\.(?!$)|$)){4}$',
  description: 'IPv4 address, dotted decimal',
});

export const Sha256 = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256, 64 hexadecimal digits',
});

export const Sha512 = Type.String({
  pattern: '^[0-9a-f]{128}$',
  description: 'SHA-512, 128 hexadecimal digits',
});

/** What a command may carry so that repeats and latecomers are told apart (promise 6). */
export const Fence = {
  key: Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{1,128}$',
      description:
        'idempotency key, 1 to 128 printable ASCII characters; a repeat returns the first operation',
    }),
  ),
  epoch: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'epoch of the scheduler; a lower one than seen before is refused',
    }),
  ),
};

/** The fence of a command to an object that has a generation. */
export const ObjectFence = {
  ...Fence,
  generation: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'generation the caller has seen; refused where the object has moved on',
    }),
  ),
};

const FenceType = strict(ObjectFence);
export type FenceValues = Static<typeof FenceType>;
