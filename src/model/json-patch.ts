/**
 * The difference between two JSON values as a JSON Patch of RFC 6902, of `add`, `replace` and `remove` alone. Pure.
 *
 * A patch comes from outside, so applying one trusts nothing: it never touches a prototype (`__proto__` is a key
 * like others, as it is to JSON.parse), and answers a copy.
 */
import { AgentError } from './errors.ts';
import { strict } from './common.ts';
import { type Static, Type } from './schema.ts';

/** Operations in one patch; what differs in more is told whole. */
export const PATCH_LIMIT = 500;

export const JsonPatch = Type.Array(
  strict({
    op: Type.Enum(['add', 'replace', 'remove']),
    path: Type.String({ maxLength: 1024, description: 'JSON Pointer' }),
    value: Type.Optional(Type.Unknown()),
  }),
  { maxItems: PATCH_LIMIT, description: 'JSON Patch (RFC 6902)' },
);
export type JsonPatch = Static<typeof JsonPatch>;

type Container = Record<string, unknown> | unknown[];

/** What makes `after` of `before`; lists of another length are replaced as a whole. */
export function diffJson(before: unknown, after: unknown, path = ''): JsonPatch {
  if (isList(before) && isList(after) && before.length === after.length) {
    return after.flatMap((value, at) => diffJson(before[at], value, `${path}/${at}`));
  }
  if (isObject(before) && isObject(after)) return diffObjects(before, after, path);
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ op: 'replace', path, value: after }];
}

/** @throws {AgentError} INVALID_ARGUMENT: it does not fit the value. */
export function patchJson(value: unknown, patch: JsonPatch): unknown {
  let root = structuredClone(value);
  for (const { op, path, value: added } of patch) {
    if (path === '' && op === 'replace') root = structuredClone(added);
    else apply(root, op, path, structuredClone(added));
  }
  return root;
}

function diffObjects(
  before: Record<string, unknown>,
  after: Record<string, unknown>,
  path: string,
): JsonPatch {
  const removed = Object.keys(before)
    .filter((key) => !Object.hasOwn(after, key) || after[key] === undefined)
    .map((key) => ({ op: 'remove' as const, path: `${path}/${escaped(key)}` }));
  const changed = Object.entries(after).flatMap(([key, value]): JsonPatch => {
    const at = `${path}/${escaped(key)}`;
    if (value === undefined) return [];
    return Object.hasOwn(before, key) ? diffJson(before[key], value, at) : [{ op: 'add', path: at, value }];
  });
  return [...removed, ...changed];
}

function apply(root: unknown, op: JsonPatch[number]['op'], path: string, value: unknown): void {
  const keys = path.split('/').slice(1).map(unescaped);
  const last = keys.pop();
  const parent = keys.reduce<unknown>((at, key) => childOf(at, key), root);
  if (last === undefined || !isContainer(parent)) throw misfit(path);
  if (op !== 'add' && !Object.hasOwn(parent, last)) throw misfit(path);
  if (isList(parent)) applyToList(parent, op, { path, at: last, value });
  else if (op === 'remove') delete parent[last];
  else Object.defineProperty(parent, last, { value, writable: true, enumerable: true, configurable: true });
}

function applyToList(
  list: unknown[],
  op: JsonPatch[number]['op'],
  { path, at, value }: { path: string; at: string; value: unknown },
): void {
  const index = at === '-' ? list.length : Number(at);
  if (!Number.isInteger(index) || index < 0 || index > list.length) throw misfit(path);
  if (op === 'replace') list[index] = value;
  else list.splice(index, op === 'remove' ? 1 : 0, ...(op === 'add' ? [value] : []));
}

function childOf(at: unknown, key: string): unknown {
  return isContainer(at) && Object.hasOwn(at, key) ? (at as Record<string, unknown>)[key] : undefined;
}

function misfit(path: string): AgentError {
  return new AgentError('INVALID_ARGUMENT', `The patch does not fit at ${path.slice(0, 80)}`);
}

function isContainer(value: unknown): value is Container {
  return typeof value === 'object' && value !== null;
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return isContainer(value) && !isList(value);
}

function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function unescaped(key: string): string {
  return key.replaceAll('~1', '/').replaceAll('~0', '~');
}
