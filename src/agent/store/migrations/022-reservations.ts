/**
 * Room that is kept free for a while. Its allocations are those of the consumer `reservation-<id>`, but for one that an
 * instance is being made from.
 */
export const reservations = `
CREATE TABLE reservations (
  id TEXT PRIMARY KEY,
  resources TEXT NOT NULL,
  note TEXT NOT NULL,
  lifetime_ms INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  instance_id TEXT UNIQUE,
  seal INTEGER
) STRICT, WITHOUT ROWID;
`;
