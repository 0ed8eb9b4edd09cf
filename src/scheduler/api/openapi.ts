/**
 * The OpenAPI document of the HTTP API, made from the routes themselves. Pure.
 */

import { strict } from '../../model/common.ts';
import { ErrorBodySchema } from '../../model/operation.ts';
import type { TSchema } from '../../model/schema.ts';
import { IdempotencyKey } from './parameters.ts';
import { NOTHING, type Route } from './route.ts';

export function openApiOf(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Berth scheduler', version: 'v1' },
    security: [{ bearer: [] }],
    components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    paths,
  };
}

function operationOf(route: Route): object {
  return {
    summary: route.summary,
    parameters: [
      ...parametersOf('path', route.params),
      ...parametersOf('query', route.query),
      ...(route.takesKey
        ? [{ in: 'header', name: 'Idempotency-Key', required: false, schema: IdempotencyKey }]
        : []),
    ],
    ...(route.body === NOTHING ? {} : { requestBody: { content: json(route.body) } }),
    responses: {
      [route.status]: { description: 'done or accepted', content: json(route.result) },
      default: { description: 'refused', content: json(strict({ error: ErrorBodySchema })) },
    },
  };
}

function parametersOf(where: 'path' | 'query', schema: TSchema): object[] {
  const { properties = {}, required = [] } = schema as {
    properties?: Record<string, TSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    in: where,
    name,
    required: required.includes(name),
    schema: property,
  }));
}

function json(schema: TSchema): object {
  return { 'application/json': { schema } };
}
