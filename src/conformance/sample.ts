/**
 * The least value that a schema allows: what an agent that has nothing would say. It follows the schemas as they grow.
 */
import type { TSchema } from '../model/schema.ts';

/** Where a string has a pattern or a meaning that no word of ours can be guessed from. */
const UUID = '00000000-0000-4000-8000-000000000000';
const TIME = '2026-01-01T00:00:00.000Z';

interface Shape {
  type?: string;
  enum?: unknown[];
  const?: unknown;
  anyOf?: TSchema[];
  properties?: Record<string, TSchema>;
  required?: string[];
  format?: string;
  minimum?: number;
  description?: string;
}

export function leastOf(schema: TSchema): unknown {
  const shape = schema as Shape;
  if (shape.const !== undefined) return shape.const;
  if (shape.enum !== undefined) return shape.enum[0];
  if (shape.anyOf !== undefined) return leastOf(shape.anyOf.find(isNull) ?? (shape.anyOf[0] as TSchema));
  switch (shape.type) {
    case 'object':
      return Object.fromEntries(
        (shape.required ?? []).map((key) => [key, leastOf(shape.properties?.[key] as TSchema)]),
      );
    case 'array':
      return [];
    case 'string':
      return stringOf(shape);
    case 'integer':
    case 'number':
      return shape.minimum ?? 0;
    case 'boolean':
      return false;
    default:
      return null;
  }
}

function stringOf({ format, description = '' }: Shape): string {
  if (format === 'uuid') return UUID;
  return description.includes('RFC 3339') ? TIME : 'none';
}

function isNull(schema: TSchema): boolean {
  return (schema as Shape).type === 'null';
}
