/**
 * What the authority remembers: tokens that may enrol a node, and certificates that it has made. No secret of a token is
 * in here, only its digest. Times are milliseconds since the epoch.
 */
import type { Database, Row } from '../../sqlite/database.ts';

export interface TokenRow {
  /** SHA-256 of the secret. */
  digest: string;
  /** The one node that it is for; null for any that is not known yet. */
  nodeId: string | null;
  expiresAt: number;
  /** What it was used for; null where it was not. */
  used: { by: string; requestDigest: string; certificate: string } | null;
}

export interface CertificateRow {
  /** Hexadecimal, upper case, as Node tells it of a peer. */
  serial: string;
  nodeId: string;
  issuedAt: number;
  notAfter: number;
  revokedAt: number | null;
}

export class TrustStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  addToken({ digest, nodeId, expiresAt }: Omit<TokenRow, 'used'>): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT INTO enrolment_tokens (digest, node_id, expires_at) VALUES (?, ?, ?)')
      .run(digest, nodeId, expiresAt);
  }

  token(digest: string): TokenRow | null {
    const row = this.#db.sql('SELECT * FROM enrolment_tokens WHERE digest = ?').get(digest);
    return row === undefined ? null : toToken(row);
  }

  countTokens(): number {
    return this.#db.sql('SELECT count(*) AS n FROM enrolment_tokens').get()?.['n'] as number;
  }

  useToken(digest: string, { by, requestDigest, certificate }: NonNullable<TokenRow['used']>): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE enrolment_tokens SET used_by = ?, request_digest = ?, certificate = ? WHERE digest = ?')
      .run(by, requestDigest, certificate, digest);
  }

  addCertificate({ serial, nodeId, issuedAt, notAfter }: Omit<CertificateRow, 'revokedAt'>): void {
    this.#db.assertTransaction();
    this.#db
      .sql('INSERT INTO certificates (serial, node_id, issued_at, not_after) VALUES (?, ?, ?, ?)')
      .run(serial, nodeId, issuedAt, notAfter);
  }

  certificate(serial: string): CertificateRow | null {
    const row = this.#db.sql('SELECT * FROM certificates WHERE serial = ?').get(serial);
    return row === undefined ? null : toCertificate(row);
  }

  hasCertificateOf(nodeId: string): boolean {
    return this.#db.sql('SELECT 1 FROM certificates WHERE node_id = ? LIMIT 1').get(nodeId) !== undefined;
  }

  /** @returns How many were revoked now. */
  revokeAllOf(nodeId: string, atMs: number): number {
    this.#db.assertTransaction();
    return this.#db
      .sql('UPDATE certificates SET revoked_at = ? WHERE node_id = ? AND revoked_at IS NULL')
      .run(atMs, nodeId).changes;
  }

  /** Deletes tokens and certificates that ended before `beforeMs`. */
  prune(beforeMs: number, rows: number): number {
    this.#db.assertTransaction();
    const tokens = 'SELECT digest FROM enrolment_tokens WHERE expires_at < ? LIMIT ?';
    const { changes } = this.#db
      .sql(`DELETE FROM enrolment_tokens WHERE digest IN (${tokens})`)
      .run(beforeMs, rows);
    const certificates = 'SELECT serial FROM certificates WHERE not_after < ? LIMIT ?';
    const left = rows - changes;
    return (
      changes +
      this.#db.sql(`DELETE FROM certificates WHERE serial IN (${certificates})`).run(beforeMs, left).changes
    );
  }
}

function toToken(row: Row): TokenRow {
  const by = row['used_by'] as string | null;
  return {
    digest: row['digest'] as string,
    nodeId: row['node_id'] as string | null,
    expiresAt: row['expires_at'] as number,
    used:
      by === null
        ? null
        : { by, requestDigest: row['request_digest'] as string, certificate: row['certificate'] as string },
  };
}

function toCertificate(row: Row): CertificateRow {
  return {
    serial: row['serial'] as string,
    nodeId: row['node_id'] as string,
    issuedAt: row['issued_at'] as number,
    notAfter: row['not_after'] as number,
    revokedAt: row['revoked_at'] as number | null,
  };
}
