/**
 * /v1/usage: what instances and volumes of all nodes have used, each record once, for who writes bills.
 */
import { Id, nullable, strict, Timestamp } from '../../../model/common.ts';
import { AgentError } from '../../../model/errors.ts';
import { type Static, Type } from '../../../model/schema.ts';
import { UsageRecord } from '../../../model/usage.ts';
import type { Directory } from '../../nodes/directory.ts';
import type { Store } from '../../store/store.ts';
import type { UsageFilter, UsageRow } from '../../store/usage.ts';
import { limitOf, UsagePage } from '../parameters.ts';
import { type Route, route } from '../route.ts';

export interface UsageRouteParts {
  store: Store;
  directory: Directory;
}

const UsageEntry = strict({
  position: Type.Integer({
    description: 'grows with each record that comes: one that is late comes after those before it',
  }),
  node: Id,
  receivedAt: { ...Timestamp, description: 'when it came here first' },
  record: UsageRecord,
});

export function usageRoutes({ store, directory }: UsageRouteParts): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/usage',
      summary: 'List usage records in the order in which they came, each once; of what is deleted, too.',
      query: UsagePage,
      result: strict({
        records: Type.Array(UsageEntry),
        next: nullable(
          Type.Integer({ description: 'what to ask `after` for more; null where there is no more now' }),
        ),
      }),
      handle: ({ query }) => {
        const limit = limitOf(query);
        const rows = store.usage.list(filterOf(query, directory), { after: Number(query.after ?? 0), limit });
        const next = rows.length < limit ? null : (rows.at(-1)?.position ?? null);
        return { records: rows.map(entryOf), next };
      },
    }),
  ];
}

/** @throws {AgentError} NOT_FOUND: the node. INVALID_ARGUMENT: no day of any calendar, or two objects. */
function filterOf(query: Static<typeof UsagePage>, directory: Directory): UsageFilter {
  const { node, kind, instance, volume, since, until } = query;
  if (instance !== undefined && volume !== undefined) {
    throw new AgentError('INVALID_ARGUMENT', 'A record is of an instance or of a volume: ask for one');
  }
  const object = instance ?? volume;
  return {
    ...(node === undefined ? {} : { nodeId: directory.find(node).id }),
    ...(kind === undefined ? {} : { kind }),
    ...(object === undefined ? {} : { objectId: object }),
    ...(since === undefined ? {} : { sinceMs: msOf('since', since) }),
    ...(until === undefined ? {} : { untilMs: msOf('until', until) }),
  };
}

function msOf(name: string, text: string): number {
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new AgentError('INVALID_ARGUMENT', `There is no such time as ${name}=${text}`);
  return ms;
}

function entryOf({ position, nodeId, receivedAt, record }: UsageRow): Static<typeof UsageEntry> {
  return { position, node: nodeId, receivedAt, record };
}
