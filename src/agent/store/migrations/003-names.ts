/**
 * The names of everything that is made on the host, kept beyond the operation that made it.
 *
 * A row is written before its thing exists, and marked as released when the thing was removed, or its making undone. It
 * stays then: it proves that a thing found later was ours.
 */
export const names = `
CREATE TABLE names (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  object_kind TEXT NOT NULL,
  object_id TEXT NOT NULL,
  operation_id TEXT NOT NULL,
  removal_id TEXT,
  planned_at TEXT NOT NULL,
  released_at TEXT,
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_release ON names (released_at) WHERE released_at IS NOT NULL;
`;
