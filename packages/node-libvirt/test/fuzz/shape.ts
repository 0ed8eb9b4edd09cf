/**
 * The protocol's types as the tests see them: read from the schema, independently of the codecs under test.
 */
import { MESSAGES, PROCEDURES, TYPES } from '../../src/protocol/schema.gen.ts';

export type Shape =
  | { kind: 'int' | 'uint' | 'hyper' | 'uhyper' | 'double' | 'uuid' | 'typedParam' }
  | { kind: 'string'; max: number }
  | { kind: 'opaque'; max: number }
  | { kind: 'fixed'; bytes: number }
  | { kind: 'chars'; max: number; isFixed: boolean }
  | { kind: 'optional'; of: Shape }
  | { kind: 'list'; of: Shape; max: number }
  | { kind: 'vector'; of: Shape; count: number }
  | { kind: 'struct'; fields: readonly (readonly [string, Shape])[] };

/** One direction of one procedure or message. */
export interface Body {
  /** Of the procedure or message, for example 'domainGetInfo'. */
  name: string;
  /** In the schema, for example 'remote_domain_get_info_ret'. */
  type: string;
}

const shapes = new Map<string, Shape>([
  ['int', { kind: 'int' }],
  ['uint', { kind: 'uint' }],
  ['hyper', { kind: 'hyper' }],
  ['uhyper', { kind: 'uhyper' }],
  ['double', { kind: 'double' }],
  ['remote_uuid', { kind: 'uuid' }],
  ['remote_typed_param', { kind: 'typedParam' }],
]);

/** Types whose shape is being made: meeting one again means that it holds itself. */
const underway = new Set<string>();

/**
 * The shape of a type.
 *
 * @throws {Error} The schema has no such type, or the type holds itself: a decoder of it could recurse without end.
 */
export function shapeOf(type: string): Shape {
  const known = shapes.get(type);
  if (known !== undefined) return known;
  const description = TYPES[type];
  if (description === undefined) throw new Error(`the schema has no type ${type}`);
  if (underway.has(type)) throw new Error(`the type ${type} holds itself`);
  underway.add(type);
  const shape = description.startsWith('=') ? layout(description.slice(1)) : struct(description);
  underway.delete(type);
  shapes.set(type, shape);
  return shape;
}

export const REPLIES: readonly Body[] = bodiesOf('r', 'ret');
export const ARGUMENTS: readonly Body[] = bodiesOf('a', 'args');
export const MESSAGE_BODIES: readonly Body[] = Object.values(MESSAGES).map(([name, base]) => ({
  name,
  type: `${base}_msg`,
}));

/** Fewest bytes that a value takes on the wire. */
export function leastBytes(shape: Shape): number {
  switch (shape.kind) {
    case 'hyper':
    case 'uhyper':
    case 'double':
      return 8;
    case 'uuid':
      return 16;
    case 'typedParam':
      return 12;
    case 'chars':
      return shape.isFixed ? shape.max * 4 : 4;
    case 'fixed':
      return (shape.bytes + 3) & ~3;
    case 'vector':
      return shape.count * leastBytes(shape.of);
    case 'struct':
      return shape.fields.reduce((sum, [, field]) => sum + leastBytes(field), 0);
    default:
      return 4;
  }
}

/** Most codecs that are at work inside one another. */
export function depth(shape: Shape): number {
  switch (shape.kind) {
    case 'optional':
    case 'list':
    case 'vector':
      return 1 + depth(shape.of);
    case 'struct':
      return 1 + Math.max(0, ...shape.fields.map(([, field]) => depth(field)));
    default:
      return 1;
  }
}

function bodiesOf(flag: string, suffix: string): Body[] {
  return Object.entries(PROCEDURES).flatMap(([name, description]) => {
    const [, base = '', , has = ''] = description.split(' ');
    return has.includes(flag) ? [{ name, type: `${base}_${suffix}` }] : [];
  });
}

function struct(description: string): Shape {
  const fields = description.split(';').map((field) => {
    const [name = '', type = ''] = field.split(' ');
    return [name, layout(type)] as const;
  });
  return { kind: 'struct', fields };
}

/** `?type`, `type<max>`, `type[count]` or `type`. */
function layout(text: string): Shape {
  if (text.startsWith('?')) return { kind: 'optional', of: shapeOf(text.slice(1)) };
  const bracket = text.search(/[<[]/);
  if (bracket < 0) return shapeOf(text);
  const type = text.slice(0, bracket);
  const size = Number(text.slice(bracket + 1, -1));
  const isCounted = text[bracket] === '<';
  if (type === 'string') return { kind: 'string', max: size };
  if (type === 'chars') return { kind: 'chars', max: size, isFixed: !isCounted };
  if (type === 'opaque') return isCounted ? { kind: 'opaque', max: size } : { kind: 'fixed', bytes: size };
  return isCounted
    ? { kind: 'list', of: shapeOf(type), max: size }
    : { kind: 'vector', of: shapeOf(type), count: size };
}
