/** Fences: nodes of which an operator says that they run nothing any more; who did what; where an instance came from. */
export const fences = `
ALTER TABLE nodes ADD COLUMN fence TEXT;
ALTER TABLE nodes ADD COLUMN fences INTEGER NOT NULL DEFAULT 0;
ALTER TABLE commands ADD COLUMN origin TEXT;

CREATE TABLE operator_log (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  action TEXT NOT NULL,
  node_id TEXT NOT NULL,
  instance_id TEXT,
  by_whom TEXT NOT NULL,
  reason TEXT NOT NULL
) STRICT;
`;
