/**
 * Params as they may be kept for years and shown to an auditor: without secrets, and short. Pure.
 *
 * What is left out: what the schema calls `writeOnly`; what has a name like a secret; what the schema does not know, since
 * a secret may be under a name that was misspelt; user, password, query and fragment of an address; the rest of
 * long texts. The digest is of what is left, too: one of the secret itself could be guessed at.
 */
import { canonical, digestOf } from '../../model/digest.ts';

/** Longest text that is kept of one value, characters: ids, names and most addresses are shorter. */
const TEXT_LIMIT = 256;
/** Longest summary of all params, characters. */
const SUMMARY_LIMIT = 1_024;

const SECRET = '(secret)';
const UNKNOWN = '(unknown)';
const SECRET_NAME = /secret|token|passw|passphrase|credential|private/i;

/** The part of a JSON schema that is looked at. */
interface Shape {
  writeOnly?: boolean;
  properties?: Record<string, Shape>;
  additionalProperties?: Shape | boolean;
  patternProperties?: Record<string, Shape>;
  items?: Shape;
  anyOf?: Shape[];
}

export interface Summary {
  params: string;
  digest: string;
}

/** @param schema Of the params, as the method table has it. @param params JSON, checked or not. */
export function summaryOf(schema: object, params: unknown): Summary {
  const shown = shownOf(schema as Shape, params);
  const text = canonical(shown);
  return {
    params: text.length <= SUMMARY_LIMIT ? text : `${text.slice(0, SUMMARY_LIMIT)}…`,
    digest: digestOf(shown),
  };
}

function shownOf(shape: Shape, value: unknown): unknown {
  if (isSecret(shape)) return SECRET;
  if (typeof value === 'string') return shownText(value);
  if (Array.isArray(value)) return value.map((item) => shownOf(itemShape(shape), item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, shownMember(shape, name, member)]),
  );
}

function shownMember(shape: Shape, name: string, value: unknown): unknown {
  if (SECRET_NAME.test(name)) return SECRET;
  const member = memberShape(shape, name);
  return member === null ? UNKNOWN : shownOf(member, value);
}

function isSecret({ writeOnly, anyOf = [] }: Shape): boolean {
  return writeOnly === true || anyOf.some(isSecret);
}

function memberShape(
  { properties, additionalProperties, patternProperties, anyOf }: Shape,
  name: string,
): Shape | null {
  if (properties !== undefined && Object.hasOwn(properties, name)) return properties[name] as Shape;
  for (const one of anyOf ?? []) {
    const found = memberShape(one, name);
    if (found !== null) return found;
  }
  if (typeof additionalProperties === 'object') return additionalProperties;
  return Object.values(patternProperties ?? {})[0] ?? null;
}

function itemShape({ items, anyOf = [] }: Shape): Shape {
  return items ?? anyOf.map(({ items: ofOne }) => ofOne).find((found) => found !== undefined) ?? {};
}

function shownText(text: string): string {
  const bare = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? bareAddress(text) : text;
  return bare.length <= TEXT_LIMIT ? bare : `${bare.slice(0, TEXT_LIMIT)}… (${text.length} characters)`;
}

/** What can't be read as an address may have a password anywhere. */
function bareAddress(text: string): string {
  const url = URL.parse(text);
  return url === null ? SECRET : `${url.protocol}//${url.host}${url.pathname}`;
}
