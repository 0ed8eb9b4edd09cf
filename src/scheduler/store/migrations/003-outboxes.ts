/** By which numbering the events of each node are stored. */
export const outboxes = `
CREATE TABLE outboxes (
  node_id TEXT PRIMARY KEY REFERENCES nodes (id),
  outbox_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
`;
