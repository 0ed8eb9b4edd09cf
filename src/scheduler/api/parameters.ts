/**
 * Schemas of what paths, queries and headers carry: texts, which become numbers here.
 */

import { Fence, Id, LIST_LIMIT, nullable, strict } from '../../model/common.ts';
import { Operation } from '../../model/operation.ts';
import { type Static, type TSchema, Type } from '../../model/schema.ts';
import { USAGE_KINDS } from '../../model/usage.ts';
import { InstanceView } from '../instance-views.ts';

/** Seconds that a caller may wait for an operation in one request; proxies cut what is longer. */
export const WAIT_SECONDS_MAX = 60;

export const IdempotencyKey: TSchema = Fence.key;

export const NodeParam = Type.String({
  pattern: '^[A-Za-z0-9._-]{1,253}$',
  description: 'id or hostname of a node',
});

export const InstanceParam = Type.String({
  pattern: '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$',
  description: 'id or name of an instance',
});

/** Why an operator does something; it is kept and shown. */
export const Reason = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: '^[^\\x00-\\x1f\\x7f]+$',
  description: 'why, in one line',
});

/** Who does it: the API has one token, so its callers say for whom they ask. */
export const ByWhom = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: '^[^\\x00-\\x1f\\x7f]+$',
  description: 'who does it; it is kept and shown',
});

export const WaitQuery = strict({
  wait: Type.Optional(
    Type.String({
      pattern: '^([1-5]?[0-9]|60)$',
      description: `seconds to wait for its end, 0 to ${WAIT_SECONDS_MAX}`,
    }),
  ),
});

/** Milliseconds that the query asks to wait. */
export function waitMsOf(query: Static<typeof WaitQuery>): number {
  return Number(query.wait ?? 0) * 1000;
}

const Limit = Type.Optional(
  Type.String({ pattern: '^([1-9][0-9]{0,2}|1000)$', description: `1 to ${LIST_LIMIT}` }),
);

/** Of a list by id. */
export const PageQuery = strict({ after: Type.Optional(Id), limit: Limit });

export const EventPage = strict({
  after: Type.Optional(
    Type.String({ pattern: '^[0-9]{1,15}$', description: 'number of an event; those after it are listed' }),
  ),
  limit: Limit,
});

const UsageTime = (description: string) =>
  Type.Optional(
    Type.String({
      pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,3})?Z$',
      description: `${description}; RFC 3339, UTC`,
    }),
  );

export const UsagePage = strict({
  node: Type.Optional(NodeParam),
  kind: Type.Optional(Type.Enum([...USAGE_KINDS])),
  instance: Type.Optional({ ...Id, description: 'id of an instance, also of one that is gone' }),
  volume: Type.Optional({ ...Id, description: 'id of a volume, also of one that is gone' }),
  since: UsageTime('only periods that end after this'),
  until: UsageTime('only periods that end by this'),
  after: Type.Optional(
    Type.String({ pattern: '^[0-9]{1,15}$', description: 'position of the last record that the caller has' }),
  ),
  limit: Limit,
});

export function limitOf(query: { limit?: string }): number {
  return query.limit === undefined ? LIST_LIMIT : Number(query.limit);
}

export const GenerationQuery = strict({
  generation: Type.Optional(
    Type.String({ pattern: '^[1-9][0-9]{0,14}$', description: 'refused where the instance has moved on' }),
  ),
});

/** What every command is answered with. */
export const CommandAnswer = strict({
  instance: nullable(InstanceView),
  operation: nullable(Operation),
});
