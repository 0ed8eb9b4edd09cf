/**
 * The first schema.
 *
 * Times are RFC 3339 texts, amounts are integers in the unit that the column's name ends with, and what
 * is only ever read whole is JSON.
 */
export const init = `
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  pool TEXT NOT NULL,
  format TEXT NOT NULL,
  sha256 TEXT,
  size_bytes INTEGER NOT NULL,
  virtual_size_bytes INTEGER NOT NULL,
  state TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE networks (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  bridge TEXT NOT NULL UNIQUE,
  cidr TEXT NOT NULL,
  gateway_address TEXT NOT NULL,
  nat INTEGER NOT NULL,
  dhcp INTEGER NOT NULL,
  dns_servers TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE instances (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  generation INTEGER NOT NULL,
  lifecycle TEXT NOT NULL,
  power_state TEXT NOT NULL,
  power_since TEXT NOT NULL,
  power_reason TEXT NOT NULL,
  spec TEXT NOT NULL,
  guest TEXT,
  created_at TEXT NOT NULL
) STRICT;

CREATE TABLE volumes (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  pool TEXT NOT NULL,
  size_gib INTEGER NOT NULL,
  image_id TEXT REFERENCES images (id),
  instance_id TEXT REFERENCES instances (id),
  position INTEGER,
  deleted_with_instance INTEGER NOT NULL,
  state TEXT NOT NULL,
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX volumes_by_instance ON volumes (instance_id);
CREATE INDEX volumes_by_image ON volumes (image_id);

CREATE TABLE ports (
  id TEXT PRIMARY KEY,
  instance_id TEXT NOT NULL REFERENCES instances (id),
  network_id TEXT NOT NULL REFERENCES networks (id),
  position INTEGER NOT NULL,
  mac_address TEXT NOT NULL UNIQUE,
  ip_address TEXT NOT NULL,
  tap_name TEXT NOT NULL UNIQUE,
  UNIQUE (network_id, ip_address)
) STRICT;
CREATE INDEX ports_by_instance ON ports (instance_id);

CREATE TABLE allocations (
  consumer_id TEXT NOT NULL,
  resource_class TEXT NOT NULL,
  amount INTEGER NOT NULL,
  PRIMARY KEY (consumer_id, resource_class)
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  version INTEGER NOT NULL,
  target_kind TEXT NOT NULL,
  target_id TEXT NOT NULL,
  target_name TEXT NOT NULL,
  state TEXT NOT NULL,
  key TEXT UNIQUE,
  request_digest TEXT NOT NULL,
  plan TEXT NOT NULL,
  error TEXT,
  created_at TEXT NOT NULL,
  started_at TEXT,
  ended_at TEXT
) STRICT;
CREATE INDEX operations_by_state ON operations (state);
CREATE INDEX operations_by_creation ON operations (created_at);

CREATE TABLE steps (
  operation_id TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  result TEXT,
  started_at TEXT,
  ended_at TEXT,
  PRIMARY KEY (operation_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  type TEXT NOT NULL,
  at TEXT NOT NULL,
  target TEXT,
  data TEXT NOT NULL
) STRICT;
`;
