/** Snapshots of instances, and the layers that they leave of volumes. A volume's `layer` is the active one; `replaced` is
 * the one that was active before an operation that may still be taken back. */
export const snapshots = `
ALTER TABLE volumes ADD COLUMN layer TEXT;

CREATE TABLE layers (
  volume_id TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  parent TEXT,
  merged INTEGER NOT NULL,
  replaced TEXT,
  seal INTEGER,
  PRIMARY KEY (volume_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
  id TEXT PRIMARY KEY,
  instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  parent_id TEXT,
  current INTEGER NOT NULL,
  state TEXT NOT NULL,
  memory_volume_id TEXT,
  quiesced INTEGER NOT NULL,
  disks TEXT NOT NULL,
  created_at TEXT NOT NULL,
  seal INTEGER,
  UNIQUE (instance_id, name)
) STRICT;
`;
