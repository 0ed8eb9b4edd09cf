/**
 * Backups as they lie in a repository: the manifest, chains of full and incremental ones, and retention. Pure.
 *
 * A backup is its manifest: what no manifest names is garbage. A full one stands by itself; an incremental one holds what has
 * changed since its parent, and is of no use without it.
 */
import { Id, nullable, strict, Timestamp } from './common.ts';
import { AgentError } from './errors.ts';
import { InstanceSpec } from './instance.ts';
import { type Static, Type } from './schema.ts';

/** A longer chain takes too long to restore, and one damaged link costs too much. */
export const CHAIN_LIMIT = 64;
/** Volumes of one instance. */
const VOLUMES_LIMIT = 64;
/** Index pages of one volume: far beyond the largest disk. */
const PAGES_LIMIT = 4096;
/** Pieces of the disk that one chunk is made of. */
export const PIECES_LIMIT = 1024;
/** Entries of one index page. */
export const PAGE_ENTRIES_LIMIT = 1024;

const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

export const ChunkId = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of the bytes; with encryption, HMAC-SHA-256 by a key of the repository',
});

/** Offset and length on the disk, bytes. */
const Piece = Type.Array(Bytes, { minItems: 2, maxItems: 2 });
const Pieces = Type.Array(Piece, { minItems: 1, maxItems: PIECES_LIMIT });

/** Pieces in the order of the disk: one chunk's bytes, laid one after the other, or ranges that are zero. */
export const IndexEntry = Type.Union([strict({ chunk: ChunkId, pieces: Pieces }), strict({ zero: Pieces })]);
export type IndexEntry = Static<typeof IndexEntry>;
export const IndexPage = Type.Array(IndexEntry, { maxItems: PAGE_ENTRIES_LIMIT });

export const BackupVolume = strict({
  id: Id,
  virtualSizeBytes: Bytes,
  /** Bytes of data that this backup holds of it. */
  dataBytes: Bytes,
  index: Type.Array(ChunkId, { maxItems: PAGES_LIMIT, description: 'pages of the index, in order' }),
});
export type BackupVolume = Static<typeof BackupVolume>;

export const BackupManifest = strict({
  version: Type.Literal(1),
  id: Id,
  instanceId: Id,
  createdAt: Type.String({
    pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$',
    description: 'RFC 3339, UTC, milliseconds',
  }),
  parent: nullable(Id),
  instance: InstanceSpec,
  volumes: Type.Array(BackupVolume, { maxItems: VOLUMES_LIMIT }),
});
export type BackupManifest = Static<typeof BackupManifest>;

/** As callers see it. */
export const Backup = strict({
  store: Type.String({ description: 'object store that it is in' }),
  id: Id,
  instanceId: Id,
  createdAt: Timestamp,
  parentId: nullable(Id, 'the backup that it is a change to; null for a full one'),
  spec: InstanceSpec,
  volumes: Type.Array(
    strict({
      id: Id,
      virtualSizeBytes: Type.Integer({ description: 'bytes that a guest sees' }),
      dataBytes: Type.Integer({ description: 'bytes that the backup holds of it, before compression' }),
    }),
  ),
});
export type Backup = Static<typeof Backup>;

/** What chains and retention need to know of a backup. */
export type BackupLink = Pick<BackupManifest, 'id' | 'parent' | 'createdAt'>;

/**
 * The backups that `id` stands on, itself included, the full one first.
 *
 * @throws {AgentError} NOT_FOUND: no such backup. DATA_DAMAGED: one that it stands on is missing, or the chain has no end.
 */
export function chainOf<B extends BackupLink>(backups: readonly B[], id: string): B[] {
  const byId = new Map(backups.map((backup) => [backup.id, backup]));
  const chain: B[] = [];
  for (let at: string | null = id; at !== null; ) {
    const link: B | undefined = byId.get(at);
    if (link === undefined) throw missing(id, at);
    if (chain.length >= CHAIN_LIMIT || chain.includes(link)) {
      throw new AgentError(
        'DATA_DAMAGED',
        `Backup ${id} stands on more than ${CHAIN_LIMIT} others, or on itself`,
      );
    }
    chain.unshift(link);
    at = link.parent;
  }
  return chain;
}

function missing(id: string, at: string): AgentError {
  if (at === id) return new AgentError('NOT_FOUND', `No backup ${id}`);
  return new AgentError('DATA_DAMAGED', `Backup ${id} stands on ${at}, which is not there`, {
    hint: 'Restore another one, and make a full backup.',
  });
}

export const Retention = strict({
  last: Type.Integer({ minimum: 1, maximum: 1000, description: 'newest backups that are kept' }),
  daily: Type.Integer({
    minimum: 0,
    maximum: 1000,
    description: 'days, of each of which the newest is kept',
  }),
  weekly: Type.Integer({ minimum: 0, maximum: 1000, description: 'weeks from Monday, the same' }),
});
export type Retention = Static<typeof Retention>;

export interface RetentionDecision {
  keep: string[];
  /** In an order in which each stands on none that went before it. */
  remove: string[];
}

/**
 * Which backups of one instance are kept. Whatever a kept one stands on is kept too; days and weeks are of UTC, and
 * count only where there is a backup.
 */
export function decideRetention(backups: readonly BackupLink[], policy: Retention): RetentionDecision {
  const newestFirst = backups.toSorted((a, b) => compare(b, a));
  const wanted = [
    ...newestFirst.slice(0, policy.last),
    ...newestOfEach(newestFirst, policy.daily, dayOf),
    ...newestOfEach(newestFirst, policy.weekly, weekOf),
  ];
  const keep = withParents(
    backups,
    wanted.map(({ id }) => id),
  );
  return {
    keep: newestFirst.filter(({ id }) => keep.has(id)).map(({ id }) => id),
    remove: childrenFirst(newestFirst.filter(({ id }) => !keep.has(id))),
  };
}

function compare(a: BackupLink, b: BackupLink): number {
  return a.createdAt === b.createdAt ? order(a.id, b.id) : order(a.createdAt, b.createdAt);
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function newestOfEach(
  newestFirst: readonly BackupLink[],
  count: number,
  periodOf: (backup: BackupLink) => string,
): BackupLink[] {
  const newest = new Map<string, BackupLink>();
  for (const backup of newestFirst) {
    const period = periodOf(backup);
    if (!newest.has(period)) newest.set(period, backup);
  }
  return [...newest.values()].slice(0, count);
}

function dayOf({ createdAt }: BackupLink): string {
  return createdAt.slice(0, 10);
}

/** The Monday that its week began with. */
function weekOf({ createdAt }: BackupLink): string {
  const date = new Date(createdAt);
  const sinceMonday = (date.getUTCDay() + 6) % 7;
  date.setUTCDate(date.getUTCDate() - sinceMonday);
  return date.toISOString().slice(0, 10);
}

function withParents(backups: readonly BackupLink[], ids: readonly string[]): Set<string> {
  const parents = new Map(backups.map(({ id, parent }) => [id, parent]));
  const kept = new Set<string>();
  for (const id of ids) {
    for (let at: string | null = id; at !== null && !kept.has(at); at = parents.get(at) ?? null) kept.add(at);
  }
  return kept;
}

/** Clocks may have been wrong, so the order is that of the chains, not of the times. */
function childrenFirst(backups: readonly BackupLink[]): string[] {
  const ids = new Set(backups.map(({ id }) => id));
  const children = new Map<string, string[]>();
  for (const { id, parent } of backups) {
    if (parent !== null && ids.has(parent)) children.set(parent, [...(children.get(parent) ?? []), id]);
  }
  const done = new Set<string>();
  // Each is put after its children; one that stands on itself, by a damaged manifest, ends where it was met before.
  const ordered: string[] = [];
  const visit = (first: string) => {
    const stack: { id: string; left: boolean }[] = [{ id: first, left: false }];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      if (top.left) ordered.push(top.id);
      else if (!done.has(top.id)) {
        done.add(top.id);
        stack.push({ id: top.id, left: true });
        for (const id of children.get(top.id) ?? []) stack.push({ id, left: false });
      }
    }
  };
  for (const { id } of backups) visit(id);
  return ordered;
}
