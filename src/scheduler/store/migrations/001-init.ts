/**
 * The first schema.
 *
 * Texts that end in `_at` or are named `since` are RFC 3339; integers that end in `_ms` are milliseconds
 * since the epoch, for what is compared; what is only ever read whole is JSON.
 */
export const init = `
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
  id TEXT PRIMARY KEY,
  hostname TEXT NOT NULL,
  version TEXT NOT NULL,
  inventory TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('ready', 'lost')),
  since TEXT NOT NULL,
  reason TEXT NOT NULL,
  last_seq INTEGER NOT NULL,
  registered_at TEXT NOT NULL
) STRICT;
CREATE INDEX nodes_by_hostname ON nodes (hostname);

CREATE TABLE events (
  node_id TEXT NOT NULL REFERENCES nodes (id),
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  at TEXT NOT NULL,
  target TEXT,
  data TEXT NOT NULL,
  PRIMARY KEY (node_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
  id TEXT PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  name TEXT NOT NULL,
  phase TEXT NOT NULL CHECK (phase IN ('dispatching', 'accepted', 'present', 'failed')),
  spec TEXT NOT NULL,
  operation_id TEXT,
  told TEXT,
  error TEXT,
  created_at TEXT NOT NULL,
  updated_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX instances_by_node ON instances (node_id);
CREATE INDEX instances_by_name ON instances (name);

CREATE TABLE operations (
  node_id TEXT NOT NULL REFERENCES nodes (id),
  id TEXT NOT NULL,
  state TEXT NOT NULL,
  view TEXT NOT NULL,
  updated_ms INTEGER NOT NULL,
  PRIMARY KEY (node_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_by_id ON operations (id);

CREATE TABLE commands (
  id TEXT PRIMARY KEY,
  client_key TEXT UNIQUE,
  digest TEXT NOT NULL,
  method TEXT NOT NULL,
  params TEXT NOT NULL,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  instance_id TEXT NOT NULL,
  pinned INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('dispatching', 'accepted', 'refused')),
  operation_id TEXT,
  answer TEXT,
  refusals TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  settled_ms INTEGER
) STRICT;
CREATE INDEX commands_by_node_and_state ON commands (node_id, state);
CREATE INDEX commands_by_operation ON commands (operation_id);

CREATE TABLE claims (
  command_id TEXT PRIMARY KEY REFERENCES commands (id) ON DELETE CASCADE,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  vcpus INTEGER NOT NULL,
  memory_mib INTEGER NOT NULL,
  disk_gib INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('held', 'accepted', 'released'))
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_node_and_state ON claims (node_id, state);
`;
