/**
 * The one gate for outside input: a TypeBox schema in, a typed value or an INVALID_ARGUMENT out.
 *
 * The error names the place in the input, says what is allowed there, and suggests the key that was
 * probably meant. Validators are compiled at first use and kept.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { AgentError } from './errors.ts';
import type { Static, TSchema } from './schema.ts';

// Our own schemas need no check against the schema of schemas, which takes longer to compile than any of them;
// `strict` refuses what Ajv does not know.
const ajv = new Ajv({
  allErrors: false,
  strict: true,
  useDefaults: true,
  ownProperties: true,
  validateSchema: false,
});
ajv.addFormat('uuid', /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);

const compiled = new WeakMap<TSchema, ValidateFunction>();

/** A key further away than this many edits is no likely misspelling. */
const SUGGESTION_DISTANCE_LIMIT = 3;
/** Longest excerpt of a caller's value that is put into a message, in characters. */
const EXCERPT_LIMIT = 80;

/** One thing wrong with an input. */
export interface Fault {
  /** Path of object keys and array indexes, outermost first; of the unknown key itself where that is the fault. */
  path: string[];
  /** What is wrong and what is allowed, without the path. */
  message: string;
}

/**
 * Checks `value` and fills in the schema's defaults, in place.
 *
 * @param what Names the input in the message, as in "config" or "params of instance.create".
 * @throws {AgentError} INVALID_ARGUMENT with `details.path`.
 */
export function parse<S extends TSchema>(schema: S, value: unknown, what: string): Static<S> {
  const fault = findFault(schema, value);
  if (fault === null) return value as Static<S>;
  const at = fault.path.length === 0 ? '' : ` at ${fault.path.join('.')}`;
  throw new AgentError('INVALID_ARGUMENT', `Invalid ${what}${at}: ${fault.message}`, {
    details: { path: fault.path.join('.') },
  });
}

/** The first fault of `value`, or null where it fits the schema. Fills in defaults, in place. */
export function findFault(schema: TSchema, value: unknown): Fault | null {
  let validate = compiled.get(schema);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    compiled.set(schema, validate);
  }
  if (validate(value)) return null;
  return describe(validate.errors ?? [], schema, value);
}

/** The nearest of `candidates` to `word`, or null where none is near. */
export function suggest(word: string, candidates: readonly string[]): string | null {
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.min(SUGGESTION_DISTANCE_LIMIT, candidate.length / 2),
    )
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.candidate ?? null;
}

function describe(errors: ErrorObject[], schema: TSchema, value: unknown): Fault {
  const error = errors[0];
  if (error === undefined) return { path: [], message: 'does not fit its schema' };
  const path = error.instancePath.split('/').slice(1).map(unescapePointer);
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(error.params['additionalProperty']);
      return { path: [...path, key], message: unknownKey(key, propertiesAt(schema, path)) };
    }
    case 'required':
      return (
        unknownKeyAt(schema, value, path) ?? {
          path,
          message: `${error.params['missingProperty']} is missing`,
        }
      );
    case 'enum':
      return {
        path,
        message: `${excerptAt(schema, value, path)} is not one of ${(error.params['allowedValues'] as unknown[]).join(', ')}`,
      };
    default:
      return {
        path,
        message: `${error.message ?? 'is invalid'}${describedAt(schema, path)}, got ${excerptAt(schema, value, path)}`,
      };
  }
}

/** A key that is missing is often there, misspelt: that says more. */
function unknownKeyAt(schema: TSchema, value: unknown, path: string[]): Fault | null {
  const allowed = propertiesAt(schema, path);
  const unknown = Object.keys(valueAt(value, path) as object).find((key) => !allowed.includes(key));
  return unknown === undefined ? null : { path: [...path, unknown], message: unknownKey(unknown, allowed) };
}

function unknownKey(key: string, allowed: string[]): string {
  if (allowed.length === 0) return `unknown key ${excerpt(key)}; none is allowed`;
  const meant = suggest(key, allowed);
  const help = meant === null ? `allowed are ${allowed.join(', ')}` : `did you mean ${meant}?`;
  return `unknown key ${excerpt(key)}; ${help}`;
}

type SchemaNode = {
  properties?: Record<string, SchemaNode>;
  items?: SchemaNode;
  anyOf?: SchemaNode[];
  description?: string;
  /** It may hold a secret, and is never repeated. @see JSON Schema Validation, 9.4 */
  writeOnly?: boolean;
};

/** The schema nodes that govern `path`; several where alternatives exist. */
function nodesAt(schema: TSchema, path: readonly string[]): SchemaNode[] {
  let nodes: SchemaNode[] = [schema as SchemaNode];
  const widen = (from: SchemaNode[]): SchemaNode[] =>
    from.flatMap((node) => (node.anyOf ? widen(node.anyOf) : [node]));
  for (const key of path) {
    nodes = widen(nodes).flatMap((node) => node.properties?.[key] ?? node.items ?? []);
  }
  return widen(nodes);
}

function propertiesAt(schema: TSchema, path: readonly string[]): string[] {
  return [...new Set(nodesAt(schema, path).flatMap((node) => Object.keys(node.properties ?? {})))];
}

function describedAt(schema: TSchema, path: readonly string[]): string {
  const description = nodesAt(schema, path).find((node) => node.description)?.description;
  return description === undefined ? '' : ` (${description})`;
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined),
    value,
  );
}

/** Of an object or a list, and of what is never shown, only what it is: secrets may be anywhere within. */
function excerptAt(schema: TSchema, root: unknown, path: readonly string[]): string {
  const value = valueAt(root, path);
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  const isSecret = nodesAt(schema, path).some(({ writeOnly }) => writeOnly);
  return isSecret ? `${typeof value}, which is not shown` : excerpt(value);
}

function excerpt(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > EXCERPT_LIMIT ? `${text.slice(0, EXCERPT_LIMIT)}…` : text;
}

function unescapePointer(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~');
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
