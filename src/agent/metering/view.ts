/** usage.list, from the store. */
import { AgentError } from '../../model/errors.ts';
import type { Params, Result } from '../../model/methods.ts';
import type { Store } from '../store/store.ts';

export function listUsage(
  { usageRecords }: Store,
  { object, kind, since, until, after, limit }: Params<'usage.list'>,
): Result<'usage.list'> {
  const range = { since: inFull(since), until: inFull(until) };
  const found = usageRecords.list({ object, kind, ...range, after, limit: limit + 1 });
  const page = found.slice(0, limit);
  const last = page.at(-1);
  return {
    records: page.map(({ record }) => record),
    next: found.length > limit && last !== undefined ? last.position : null,
  };
}

/** Times are compared as texts, and so have to have the same length. @throws {AgentError} INVALID_ARGUMENT */
function inFull(time: string | undefined): string | undefined {
  if (time === undefined) return undefined;
  const ms = Date.parse(time);
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw new AgentError('INVALID_ARGUMENT', `${time} is no time`, {
    hint: 'Give it as 2026-01-31T12:00:00Z.',
  });
}
