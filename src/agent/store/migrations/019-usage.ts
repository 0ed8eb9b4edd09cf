/**
 * Usage: meters with where their counting stands, what has changed since they were read, and records until they are
 * delivered. `event_seq` is the event that has told of a record last.
 */
export const usage = `
CREATE TABLE meters (
  id TEXT PRIMARY KEY,
  data TEXT NOT NULL,
  seal INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_changes (
  seq INTEGER PRIMARY KEY,
  data TEXT NOT NULL,
  seal INTEGER
) STRICT;

CREATE TABLE usage_records (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  object_id TEXT NOT NULL,
  object_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  period_end TEXT NOT NULL,
  event_seq INTEGER NOT NULL,
  data TEXT NOT NULL,
  seal INTEGER
) STRICT;
CREATE INDEX usage_records_by_object ON usage_records (object_id, position);
CREATE INDEX usage_records_by_event ON usage_records (event_seq);
CREATE INDEX usage_records_by_period ON usage_records (period_end);
`;
