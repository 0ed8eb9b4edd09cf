/** Methods of usage records. */
import { NameOrId, nullable, strict } from '../common.ts';
import { type Method, read } from '../method.ts';
import { Type } from '../schema.ts';
import { USAGE_KINDS, UsageRecord } from '../usage.ts';

/** Most records in one answer: half a megabyte of them. */
export const USAGE_LIST_LIMIT = 500;

const time = (description: string) =>
  Type.Optional(
    Type.String({
      pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,3})?Z$',
      description: `${description}; RFC 3339, UTC`,
    }),
  );

export const USAGE_METHODS = {
  'usage.list': read(
    'List what instances and volumes have used, by period, oldest first; those that are deleted included.',
    strict({
      object: Type.Optional({ ...NameOrId, description: 'name or UUID of an instance or a volume' }),
      kind: Type.Optional(Type.Enum([...USAGE_KINDS])),
      since: time('only periods that end after this'),
      until: time('only periods that end by this'),
      after: Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        default: 0,
        description: 'position of the last record that the caller has',
      }),
      limit: Type.Integer({ minimum: 1, maximum: USAGE_LIST_LIMIT, default: USAGE_LIST_LIMIT }),
    }),
    strict({
      records: Type.Array(UsageRecord),
      next: nullable(
        Type.Integer({ description: 'what to ask `after` for more; null where there is no more' }),
      ),
    }),
  ),
} as const satisfies Record<string, Method>;
