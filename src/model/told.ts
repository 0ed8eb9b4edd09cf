/**
 * How what the far side tells is read, in contrast to what it asks for: fields that are not known here are passed over.
 *
 * Versions only add: a node may tell more of itself, in an answer, an event or its inventory, than an older scheduler knows.
 * What is asked for is another matter: a param that is not known is an error, since it would not be heeded.
 */
import { BerthEvent } from './event.ts';
import type { Static, TSchema } from './schema.ts';
import { strict } from './common.ts';
import { Type } from './schema.ts';

const opened = new WeakMap<TSchema, TSchema>();

/** The same schema, in which no object refuses fields that it does not know. */
export function told<S extends TSchema>(schema: S): S {
  const known = opened.get(schema);
  if (known !== undefined) return known as S;
  const copy = openCopy(schema) as S;
  opened.set(schema, copy);
  return copy;
}

/** An event as it is read: also one of a type that came later. Its `data` is judged by who uses it. */
export const ToldEvent = strict({ ...BerthEvent.properties, type: Type.String({ maxLength: 64 }) });
export type ToldEvent = Static<typeof ToldEvent>;

function openCopy(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(openCopy);
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema).filter(
    ([key, value]) => !(key === 'additionalProperties' && value === false),
  );
  return Object.fromEntries(entries.map(([key, value]) => [key, openCopy(value)]));
}
