/**
 * Usage records of all nodes, each once, in the order in which they came; those in events that are still stored, too: what was
 * told before there was this table is not lost to it.
 */
export const usage = `
CREATE TABLE usage_records (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  node_id TEXT NOT NULL REFERENCES nodes (id),
  id TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('instance', 'volume')),
  object_id TEXT NOT NULL,
  period_end_ms INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  record TEXT NOT NULL,
  UNIQUE (node_id, id)
) STRICT;
CREATE INDEX usage_by_object ON usage_records (object_id, position);
CREATE INDEX usage_by_node ON usage_records (node_id, position);

INSERT OR IGNORE INTO usage_records (node_id, id, kind, object_id, period_end_ms, received_ms, record)
SELECT node_id, record ->> 'id', record ->> 'kind', record ->> 'objectId',
  CAST(round((julianday(record ->> 'periodEnd') - 2440587.5) * 86400000) AS INTEGER),
  CAST(round((julianday(at) - 2440587.5) * 86400000) AS INTEGER), record
FROM (
  SELECT events.node_id, events.seq, events.at, each.value AS record
  FROM events, json_each(events.data, '$.records') AS each
  WHERE events.type = 'usage.recorded' AND each.type = 'object'
)
WHERE json_type(record, '$.id') = 'text' AND json_type(record, '$.objectId') = 'text'
  AND record ->> 'kind' IN ('instance', 'volume')
  AND julianday(record ->> 'periodEnd') IS NOT NULL AND julianday(at) IS NOT NULL
ORDER BY node_id, seq;
`;
