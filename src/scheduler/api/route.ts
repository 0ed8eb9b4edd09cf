/**
 * Routes as data: path, schemas and handler in one place, for the server and for /v1/openapi.json.
 */

import { strict } from '../../model/common.ts';
import type { Static, TSchema } from '../../model/schema.ts';

export const NOTHING = strict({});

export interface RouteInput<P extends TSchema, Q extends TSchema, B extends TSchema> {
  params: Static<P>;
  query: Static<Q>;
  body: Static<B>;
  /** The caller's idempotency key; null where there is none. */
  key: string | null;
}

export interface RouteSpec<P extends TSchema, Q extends TSchema, B extends TSchema, R extends TSchema> {
  method: 'GET' | 'POST' | 'DELETE';
  /** With `{name}` for parameters, as OpenAPI writes them. */
  path: string;
  /** One sentence, in the imperative. */
  summary: string;
  params: P;
  query: Q;
  /** What the body must be; one that is absent counts as `{}`. */
  body: B;
  /** Status of success. */
  status: 200 | 202;
  result: R;
  /** It takes an Idempotency-Key. */
  takesKey?: true;
  /** It needs no bearer token: what it takes is proof itself. */
  isOpen?: true;
  handle(input: RouteInput<P, Q, B>): Promise<Static<R>> | Static<R>;
}

/** A route whose schemas are checked already; what the server and the document see of it. */
export interface Route extends Omit<RouteSpec<TSchema, TSchema, TSchema, TSchema>, 'handle'> {
  handle(input: { params: unknown; query: unknown; body: unknown; key: string | null }): unknown;
}

/** Fills in what a route does not say, and lets the compiler hold handler and schemas together. */
export function route<
  R extends TSchema,
  P extends TSchema = typeof NOTHING,
  Q extends TSchema = typeof NOTHING,
  B extends TSchema = typeof NOTHING,
>(
  spec: Omit<RouteSpec<P, Q, B, R>, 'params' | 'query' | 'body' | 'status'> & {
    params?: P;
    query?: Q;
    body?: B;
    status?: 200 | 202;
  },
): Route {
  return { params: NOTHING, query: NOTHING, body: NOTHING, status: 200, ...spec } as unknown as Route;
}
