/**
 * The audit log as callers see it, and the hash chain that holds it together. Pure.
 *
 *   hash(n) = SHA-256( hash(n-1) \n seq \n at \n body )
 *
 * A row can't be changed, removed or moved without changing every hash after it. What a chain alone does not
 * show is a tail that was cut off, or a whole chain that was written anew by somebody who has the file: for that a
 * head that was noted elsewhere is compared (docs/adr/0027-audit-log.md).
 */
import { createHash } from 'node:crypto';
import { Id, nullable, Sha256, strict, Timestamp } from './common.ts';
import { ERROR_CODES, type ErrorCode } from './errors.ts';
import { type Static, Type } from './schema.ts';

/** Ways in, and the agent itself for what its policies begin. */
export const WAYS = ['link', 'socket', 'read-only-socket', 'agent'] as const;
export type Way = (typeof WAYS)[number];

export const Principal = strict({
  via: Type.Enum([...WAYS]),
  name: nullable(
    Type.String(),
    'name of the local user, subject or address of the scheduler, or policy of the agent; null where it is not known',
  ),
  uid: nullable(Type.Integer(), 'of the local user, by the kernel; null where it is not known, or not local'),
  pid: nullable(Type.Integer(), 'of the local process that connected'),
});
export type Principal = Static<typeof Principal>;

export const AUDIT_KINDS = ['begin', 'call', 'end', 'refusal', 'unrecorded', 'cut'] as const;
export type AuditKind = (typeof AUDIT_KINDS)[number];

/** What one entry says, without its place in the chain. */
export const AuditBody = strict({
  kind: Type.Enum([...AUDIT_KINDS], {
    description:
      'begin: of the log; call: taken; end: of an operation; refusal: not taken; unrecorded: refusals that were too many to keep; cut: older entries were removed',
  }),
  who: nullable(Principal),
  method: nullable(Type.String()),
  params: nullable(Type.String({ description: 'as JSON, without secrets, cut where it is long' })),
  digest: nullable(
    Sha256,
    'SHA-256 of the params as JSON with sorted keys, without secrets, before they are cut',
  ),
  operation: nullable(Id),
  outcome: nullable(
    Type.Enum(['accepted', 'done', 'refused', 'succeeded', 'failed', 'cancelled'], {
      description: 'accepted: taken, and begun after this entry; done: it was so already',
    }),
  ),
  code: nullable(Type.Enum(Object.keys(ERROR_CODES) as ErrorCode[]), 'of the error'),
  count: nullable(
    Type.Integer({ minimum: 0 }),
    'refusals that are not recorded, or entries that were removed',
  ),
});
export type AuditBody = Static<typeof AuditBody>;

export const AuditEntry = strict({
  seq: Type.Integer({ minimum: 1, description: 'number in the chain, without gaps' }),
  at: Timestamp,
  ...AuditBody.properties,
  hash: Sha256,
});
export type AuditEntry = Static<typeof AuditEntry>;

/** A place in the chain. */
export const AuditHead = strict({ seq: Type.Integer({ minimum: 0 }), hash: Sha256 });
export type AuditHead = Static<typeof AuditHead>;

export const AuditVerdict = strict({
  intact: Type.Boolean(),
  fault: nullable(Type.String({ description: 'what is wrong first' })),
  entries: Type.Integer({ minimum: 0, description: 'entries that were looked at' }),
  base: AuditHead,
  head: AuditHead,
});
export type AuditVerdict = Static<typeof AuditVerdict>;

/** A row as it is stored: the body is the text that was hashed. */
export interface AuditRow {
  seq: number;
  at: string;
  body: string;
  hash: string;
}

/** What comes before the first entry of all. */
export const CHAIN_START: AuditHead = { seq: 0, hash: '0'.repeat(64) };

export function hashOf(before: string, { seq, at, body }: Omit<AuditRow, 'hash'>): string {
  return createHash('sha256').update(`${before}\n${seq}\n${at}\n${body}`).digest('hex');
}

/**
 * Follows the chain from a place in it: where it leads, and the first fault; null where every row follows from the one
 * before it.
 */
export function follow(
  from: AuditHead,
  rows: Iterable<AuditRow>,
): { head: AuditHead; count: number; fault: string | null } {
  let head = from;
  let count = 0;
  for (const row of rows) {
    const fault = faultOf(head, row);
    if (fault !== null) return { head, count, fault };
    head = { seq: row.seq, hash: row.hash };
    count++;
  }
  return { head, count, fault: null };
}

function faultOf(before: AuditHead, row: AuditRow): string | null {
  if (row.seq !== before.seq + 1)
    return `entry ${before.seq + 1} is missing: ${row.seq} comes after ${before.seq}`;
  if (hashOf(before.hash, row) === row.hash) return null;
  return `entry ${row.seq} is not what was written, or does not follow from the one before it`;
}
