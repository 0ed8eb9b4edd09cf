/** Folders that guests mount, and which instances have which of them. */
export const shares = `
CREATE TABLE shares (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  pool TEXT NOT NULL,
  quota_gib INTEGER,
  protected INTEGER NOT NULL,
  state TEXT NOT NULL,
  created_at TEXT NOT NULL,
  seal INTEGER
) STRICT;

CREATE TABLE share_users (
  instance_id TEXT NOT NULL REFERENCES instances (id),
  share_id TEXT NOT NULL REFERENCES shares (id),
  position INTEGER NOT NULL,
  tag TEXT NOT NULL,
  access TEXT NOT NULL,
  leaving INTEGER NOT NULL DEFAULT 0,
  seal INTEGER,
  PRIMARY KEY (instance_id, share_id),
  UNIQUE (instance_id, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_users_by_share ON share_users (share_id);
`;
