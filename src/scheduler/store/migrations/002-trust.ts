/** Tokens for enrolment, by the digest of their secret, and the certificates that were made. */
export const trust = `
CREATE TABLE enrolment_tokens (
  digest TEXT PRIMARY KEY,
  node_id TEXT,
  expires_at INTEGER NOT NULL,
  used_by TEXT,
  request_digest TEXT,
  certificate TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
  serial TEXT PRIMARY KEY,
  node_id TEXT NOT NULL,
  issued_at INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_node ON certificates (node_id);
`;
