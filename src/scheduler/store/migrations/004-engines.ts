/**
 * Engines: who this scheduler is to them, claims by instance and not by command, the tables of the embedded engine (`engine_…`), what operators say of a
 * node's service, and what was asked of placement beside the spec.
 */
export const engines = `
CREATE TABLE claims_by_consumer (
  consumer TEXT PRIMARY KEY,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  amounts TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('wanted', 'held', 'accepted', 'counted', 'releasing'))
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO claims_by_consumer
  SELECT commands.instance_id, claims.node_id,
    json_object('VCPU', claims.vcpus, 'MEMORY_MB', claims.memory_mib, 'DISK_GB', claims.disk_gib), claims.state
  FROM claims JOIN commands ON commands.id = claims.command_id WHERE claims.state <> 'released';
DROP TABLE claims;
ALTER TABLE claims_by_consumer RENAME TO claims;
CREATE INDEX claims_by_node_and_state ON claims (node_id, state);

CREATE TABLE engine_nodes (
  node_id TEXT PRIMARY KEY,
  is_open INTEGER NOT NULL,
  traits TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE engine_stock (
  node_id TEXT NOT NULL REFERENCES engine_nodes (node_id),
  class TEXT NOT NULL,
  free INTEGER NOT NULL,
  PRIMARY KEY (node_id, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE engine_claims (
  consumer TEXT NOT NULL,
  class TEXT NOT NULL,
  node_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  counted INTEGER NOT NULL,
  PRIMARY KEY (consumer, class)
) STRICT, WITHOUT ROWID;
CREATE INDEX engine_claims_uncounted ON engine_claims (node_id, class) WHERE counted = 0;
CREATE INDEX engine_claims_by_node ON engine_claims (node_id);
INSERT INTO engine_claims
  SELECT claims.consumer, each.key, claims.node_id, each.value, 0
  FROM claims, json_each(claims.amounts) AS each WHERE each.value > 0;

CREATE TABLE identity (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

ALTER TABLE nodes ADD COLUMN service TEXT NOT NULL DEFAULT 'ready'
  CHECK (service IN ('ready', 'draining', 'maintenance'));
ALTER TABLE nodes ADD COLUMN service_note TEXT;

ALTER TABLE instances ADD COLUMN placement TEXT;
ALTER TABLE instances ADD COLUMN group_name TEXT;
CREATE INDEX commands_by_instance ON commands (instance_id);
CREATE INDEX commands_by_state ON commands (state, node_id);
CREATE INDEX instances_by_group ON instances (group_name) WHERE group_name IS NOT NULL;
`;
