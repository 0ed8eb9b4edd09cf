/**
 * Makes up valid values of any type of the protocol, so that every codec is reached, those of procedures that no
 * driver at hand implements included.
 */
import type { Random } from './random.ts';
import { type Shape, shapeOf } from './shape.ts';

/** Elements in a list that is made up. Long lists are the business of the attacks on counts. */
const ELEMENTS_MAX = 4;

const INTS = [0, 1, -1, 2, 7, 255, -2_147_483_648, 2_147_483_647];
const UINTS = [0, 1, 2, 7, 65_536, 2_147_483_648, 4_294_967_295];
const HYPERS = [0n, 1n, -1n, 2n ** 53n, -(2n ** 63n), 2n ** 63n - 1n];
const UHYPERS = [0n, 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n];
const DOUBLES = [0, -0, 1.5, -1e300, 5e-324, Infinity];
const TEXTS = [
  '',
  'a',
  'vda',
  'test',
  'näme',
  '仮想',
  '🖥',
  '__proto__',
  'cpu.time',
  '<domain/>',
  'a'.repeat(64),
];
const PARAM_TYPES = ['int', 'uint', 'llong', 'ullong', 'double', 'boolean', 'string'] as const;

/** A valid value of a type of the schema. */
export function synthesise(type: string, random: Random): unknown {
  return valueFor(shapeOf(type), random);
}

export function valueFor(shape: Shape, random: Random): unknown {
  switch (shape.kind) {
    case 'optional':
      return random.percent(50) ? null : valueFor(shape.of, random);
    case 'list':
      return elements(shape.of, random.below(Math.min(ELEMENTS_MAX, shape.max) + 1), random);
    case 'vector':
      return elements(shape.of, shape.count, random);
    case 'struct':
      return structValue(shape.fields, random);
    case 'opaque':
      return Buffer.alloc(random.below(Math.min(12, shape.max)), random.below(256));
    case 'fixed':
      return Buffer.alloc(shape.bytes, random.below(256));
    case 'chars':
      return random.pick(TEXTS);
    case 'typedParam':
      return typedParam(random);
    default:
      return scalar(shape.kind, random);
  }
}

function elements(shape: Shape, count: number, random: Random): unknown[] {
  const list: unknown[] = [];
  for (let index = 0; index < count; index++) list.push(valueFor(shape, random));
  return list;
}

function structValue(fields: readonly (readonly [string, Shape])[], random: Random): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const [name, shape] of fields) value[name] = valueFor(shape, random);
  return value;
}

type ScalarKind = 'int' | 'uint' | 'hyper' | 'uhyper' | 'double' | 'uuid' | 'string';

function scalar(kind: ScalarKind, random: Random): unknown {
  switch (kind) {
    case 'int':
      return random.pick(INTS);
    case 'uint':
      return random.pick(UINTS);
    case 'hyper':
      return random.pick(HYPERS);
    case 'uhyper':
      return random.pick(UHYPERS);
    case 'double':
      return random.pick(DOUBLES);
    case 'string':
      return random.pick(TEXTS);
    case 'uuid':
      return uuid(random);
    default:
      return kind satisfies never;
  }
}

function uuid(random: Random): string {
  const hex = random.word().toString(16).padStart(8, '0');
  return `${hex}-${hex.slice(0, 4)}-4${hex.slice(1, 4)}-8${hex.slice(5, 8)}-${hex}${hex.slice(2, 6)}`;
}

function typedParam(random: Random): unknown {
  const type = random.pick(PARAM_TYPES);
  const field = random.pick(TEXTS);
  return { field, type, value: paramValue(type, random) };
}

function paramValue(type: (typeof PARAM_TYPES)[number], random: Random): unknown {
  switch (type) {
    case 'llong':
      return scalar('hyper', random);
    case 'ullong':
      return scalar('uhyper', random);
    case 'boolean':
      return random.percent(50);
    default:
      return scalar(type, random);
  }
}
