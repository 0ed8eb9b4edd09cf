/**
 * Everything that a caller without types may give in place of an argument: for each place in a procedure's arguments, the
 * values that must be refused there.
 */
import { Random } from '../fuzz/random.ts';
import type { Shape } from '../fuzz/shape.ts';
import { valueFor } from '../fuzz/synthesise.ts';

/** Arguments that are right but for one place. */
export interface BadValue {
  /** As errors name the place: 'dom.uuid', 'params[0].value'. */
  path: string;
  value: unknown;
}

const STRING_MAX = 4_194_304;

/** Longest list that is made in full, for being one too long. */
const LIST_MAX = 300_000;

const cyclic: Record<string, unknown> = {};
cyclic['self'] = cyclic;

const throwing = new Proxy(
  {},
  {
    get() {
      throw new RangeError('from the proxy');
    },
  },
);

/** What is no value of any kind of scalar. */
const NOTHINGS: readonly unknown[] = [
  undefined,
  null,
  true,
  Symbol('symbol'),
  {},
  [],
  cyclic,
  throwing,
  Object.create(null),
  () => 1,
  new Date(0),
  new Map(),
];

const NO_NUMBERS: readonly unknown[] = [...NOTHINGS, '1', 'abc', '', new Number(1)];
const NO_INTEGERS: readonly unknown[] = [...NO_NUMBERS, 1.5, NaN, Infinity, -Infinity, 1e300];
const OVER_INT = [2_147_483_648, -2_147_483_649, 1n];
const OVER_UINT = [-1, 4_294_967_296, 1n];
const OVER_HYPER = [2n ** 63n, -(2n ** 63n) - 1n, 2 ** 53];
const OVER_UHYPER = [2n ** 64n, -1n, -1, 2 ** 53];
const NO_STRINGS: readonly unknown[] = [
  ...NOTHINGS,
  0,
  7n,
  new String('a'),
  Buffer.from('a'),
  'a\0b',
  '\ud800',
  'a\udc00b',
];
const NO_UUIDS: readonly unknown[] = [
  ...NOTHINGS,
  '',
  'x',
  7,
  Buffer.alloc(16),
  'g'.repeat(32),
  '0'.repeat(31),
  '0'.repeat(33),
];
const NO_BYTES: readonly unknown[] = [...NOTHINGS, 'abc', 7, [1, 2], new ArrayBuffer(4), new Uint16Array(2)];
const NO_OBJECTS: readonly unknown[] = [undefined, null, true, 0, 'text', Symbol('symbol'), () => 1];
const NO_LISTS: readonly unknown[] = [
  ...NO_OBJECTS,
  {},
  { length: 1, 0: 1 },
  new Set([1]),
  new Uint8Array(1),
  new Int32Array(1),
];

const longStrings = new Map<number, string>();

/** @param path Of the shape itself; '' for the arguments as a whole. */
export function* badValues(shape: Shape, path = ''): Generator<BadValue> {
  for (const value of ownBadValues(shape)) yield { path, value };
  switch (shape.kind) {
    case 'struct':
      return yield* inStruct(shape.fields, path);
    case 'list':
      return yield* inList(shape.of, path);
    case 'optional':
      for (const bad of badValues(shape.of, path))
        if (bad.value !== null && bad.value !== undefined) yield bad;
      return;
    case 'typedParam':
      return yield* inTypedParam(path);
    default:
  }
}

/** What is wrong as a whole. */
function ownBadValues(shape: Shape): readonly unknown[] {
  switch (shape.kind) {
    case 'int':
      return [...NO_INTEGERS, ...OVER_INT];
    case 'uint':
      return [...NO_INTEGERS, ...OVER_UINT];
    case 'hyper':
      return [...NO_INTEGERS, ...OVER_HYPER];
    case 'uhyper':
      return [...NO_INTEGERS, ...OVER_UHYPER];
    case 'double':
      return [...NO_NUMBERS, 1n];
    case 'uuid':
      return NO_UUIDS;
    case 'string':
      return [...NO_STRINGS, longString(shape.max)];
    case 'chars':
      return NOTHINGS;
    case 'opaque':
      return [...NO_BYTES, new Uint8Array(shape.max + 1)];
    case 'fixed':
      return [...NO_BYTES, Buffer.alloc(shape.bytes + 1), Buffer.alloc(shape.bytes - 1)];
    case 'list':
      return [...NO_LISTS, Array.from({ length: Math.min(shape.max + 1, LIST_MAX) })];
    case 'vector':
      return [...NO_LISTS, Array.from({ length: shape.count + 1 })];
    case 'struct':
    case 'typedParam':
      return NO_OBJECTS;
    default:
      return [];
  }
}

function* inStruct(fields: readonly (readonly [string, Shape])[], path: string): Generator<BadValue> {
  const right = Object.fromEntries(fields.map(([name, shape]) => [name, rightValue(shape)]));
  for (const [name, shape] of fields) {
    const at = path === '' ? name : `${path}.${name}`;
    for (const bad of badValues(shape, at)) yield { path: bad.path, value: { ...right, [name]: bad.value } };
    yield { path: at, value: withThrowingGetter(right, name) };
    if (shape.kind !== 'optional') {
      const { [name]: _, ...rest } = right;
      yield { path: at, value: rest };
    }
  }
}

/** The second element is wrong; or there is none where the list says that there is one. */
function* inList(shape: Shape, path: string): Generator<BadValue> {
  const right = rightValue(shape);
  for (const bad of badValues(shape, `${path}[1]`)) yield { path: bad.path, value: [right, bad.value] };
  if (shape.kind !== 'optional') yield { path: `${path}[0]`, value: new Array(1) };
}

function* inTypedParam(path: string): Generator<BadValue> {
  const values = [
    { type: 'int', values: [...NO_INTEGERS, ...OVER_INT] },
    { type: 'uint', values: [...NO_INTEGERS, ...OVER_UINT] },
    { type: 'llong', values: [...NO_INTEGERS, ...OVER_HYPER] },
    { type: 'ullong', values: [...NO_INTEGERS, ...OVER_UHYPER] },
    { type: 'double', values: NO_NUMBERS },
    { type: 'boolean', values: [0, 1, 'true', ...NOTHINGS.filter((value) => typeof value !== 'boolean')] },
    { type: 'string', values: [...NO_STRINGS, longString(STRING_MAX)] },
  ];
  for (const { type, values: bad } of values)
    for (const value of bad) yield { path: `${path}.name`, value: { field: 'name', type, value } };
  for (const type of ['', 'bool', 'constructor', '__proto__', 7, null, undefined, Symbol('symbol'), throwing])
    yield { path, value: { field: 'name', type, value: 1 } };
  for (const field of NO_STRINGS) yield { path, value: { field, type: 'int', value: 1 } };
}

/** With everything that is optional in it, so that there is a place for what is wrong. */
function rightValue(shape: Shape): unknown {
  const given = shape.kind === 'optional' ? shape.of : shape;
  return valueFor(given, new Random(1));
}

function withThrowingGetter(object: object, name: string): object {
  const get = () => {
    throw new RangeError('from the getter');
  };
  return Object.defineProperty({ ...object }, name, { get, enumerable: true });
}

function longString(max: number): string {
  const known = longStrings.get(max) ?? 'x'.repeat(max + 1);
  longStrings.set(max, known);
  return known;
}
