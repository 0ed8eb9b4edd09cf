/**
 * The OpenAPI document of the HTTP API, made from the routes themselves. Pure. What several routes carry is a component, named
 * once.
 */

import { strict } from '../../model/common.ts';
import { Instance, InstanceSpec } from '../../model/instance.ts';
import { Inventory } from '../../model/node.ts';
import { ErrorBodySchema, Operation } from '../../model/operation.ts';
import type { TSchema } from '../../model/schema.ts';
import { InstanceView } from '../instance-views.ts';
import { NodeView } from '../nodes/directory.ts';
import { PlacementRequest } from '../placement/request.ts';
import { IdempotencyKey } from './parameters.ts';
import { NOTHING, type Route } from './route.ts';

/** By the schema itself: wherever it is met, its name stands for it. */
const COMPONENTS = new Map<unknown, string>([
  [ErrorBodySchema, 'Error'],
  [Instance, 'ToldInstance'],
  [InstanceSpec, 'InstanceSpec'],
  [InstanceView, 'Instance'],
  [Inventory, 'Inventory'],
  [NodeView, 'Node'],
  [Operation, 'Operation'],
  [PlacementRequest, 'Placement'],
]);

export function openApiOf(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Berth scheduler', version: 'v1' },
    security: [{ bearer: [] }],
    components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } }, schemas: schemas() },
    paths: referring(paths),
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

function schemas(): object {
  const named = [...COMPONENTS].map(([schema, name]) => [name, partsOf(schema)]);
  return Object.fromEntries(named.sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1)));
}

/** The value with the names of components in their places. */
function referring(value: unknown): unknown {
  const name = COMPONENTS.get(value);
  return name === undefined ? partsOf(value) : { $ref: `#/components/schemas/${name}` };
}

function partsOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(referring);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, referring(part)]));
}

function json(schema: TSchema): object {
  return { 'application/json': { schema } };
}
