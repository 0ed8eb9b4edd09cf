/**
 * Enrolment, renewal and revocation: who gets a certificate of the authority, and whose are good no longer.
 *
 * A token is good once, for a time, for a node that is not known yet, or for the one that it names: the holder of a
 * token for a new node can't take the place of another one. Its secret is not kept, only its digest.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { digestOf } from '../../model/digest.ts';
import { type EnrolRequest, writeToken } from '../../model/enrolment.ts';
import { AgentError } from '../../model/errors.ts';
import { readRequest } from '../../model/x509/request.ts';
import type { Clock } from '../clock.ts';
import type { Store } from '../store/store.ts';
import type { TokenRow } from '../store/trust.ts';
import type { Authority } from './authority.ts';

const SECRET_BYTES = 32;
/** Tokens that are remembered; those that expired go with time. */
const TOKENS_LIMIT = 10_000;

export interface EnrolmentParts {
  store: Store;
  authority: Authority;
  clock: Clock;
  logger: Logger;
  /** wss:// address that nodes are given. */
  url: () => string;
}

export class Enrolment {
  readonly #parts: EnrolmentParts;

  constructor(parts: EnrolmentParts) {
    this.#parts = parts;
  }

  /** @param options.nodeId The node that it is for; null for one that is not known yet. */
  createToken({ ttlMs, nodeId }: { ttlMs: number; nodeId: string | null }): {
    token: string;
    expiresAt: number;
  } {
    const { store, authority, clock, logger, url } = this.#parts;
    const secret = randomBytes(SECRET_BYTES).toString('base64url');
    const expiresAt = clock.now() + ttlMs;
    store.db.transaction(() => {
      if (store.trust.countTokens() >= TOKENS_LIMIT) {
        throw new AgentError('LIMIT_REACHED', `There are ${TOKENS_LIMIT} enrolment tokens already`);
      }
      store.trust.addToken({ digest: sha256(secret), nodeId, expiresAt });
    });
    logger.info({ nodeId, expiresAt: iso(expiresAt) }, 'enrolment token made');
    return { token: writeToken({ url: url(), authority: authority.digest, secret }), expiresAt };
  }

  /** @returns PEM @throws {AgentError} PERMISSION_DENIED: the token is not good for it. INVALID_ARGUMENT: no request. */
  enrol({ secret, nodeId, request }: EnrolRequest): string {
    const { store } = this.#parts;
    return store.db.transaction(() => {
      const token = this.#goodToken(secret, nodeId);
      const requestDigest = digestOf(request);
      if (token.used !== null) return repeated(token.used, nodeId, requestDigest);
      this.#assertMayBecome(nodeId, token);
      const certificate = this.#issue(nodeId, request);
      store.trust.useToken(token.digest, { by: nodeId, requestDigest, certificate });
      return certificate;
    });
  }

  /** The next certificate of a node that has shown a good one. @returns PEM */
  renew(nodeId: string, request: string): string {
    return this.#parts.store.db.transaction(() => this.#issue(nodeId, request));
  }

  /** @returns How many certificates were revoked now. */
  revoke(nodeId: string): number {
    const { store, clock, logger } = this.#parts;
    const revoked = store.db.transaction(() => store.trust.revokeAllOf(nodeId, clock.now()));
    logger.warn({ nodeId, revoked }, 'certificates of a node revoked');
    return revoked;
  }

  /** @throws {AgentError} PERMISSION_DENIED: it is revoked, or not one of ours. */
  assertGood(serial: string, nodeId: string): void {
    const row = this.#parts.store.trust.certificate(serial);
    if (row === null || row.nodeId !== nodeId) {
      throw new AgentError('PERMISSION_DENIED', `The certificate ${serial} was not made here`, {
        hint: 'Enrol the node anew: berth-scheduler token create --node ID.',
      });
    }
    if (row.revokedAt === null) return;
    throw new AgentError('PERMISSION_DENIED', `The certificate was revoked at ${iso(row.revokedAt)}`, {
      hint: 'Enrol the node anew, if it is to come back: berth-scheduler token create --node ID.',
    });
  }

  #goodToken(secret: string, nodeId: string): TokenRow {
    const { store, clock } = this.#parts;
    const token = store.trust.token(sha256(secret));
    if (token === null) throw denied('it was not made here, or is long past');
    if (token.expiresAt <= clock.now()) {
      throw denied(
        `it was good until ${iso(token.expiresAt)}, and the scheduler's clock says ${iso(clock.now())}`,
      );
    }
    if (token.nodeId !== null && token.nodeId !== nodeId) throw denied('it is for another node');
    return token;
  }

  #assertMayBecome(nodeId: string, token: TokenRow): void {
    const { store } = this.#parts;
    if (token.nodeId === nodeId) return;
    if (store.nodes.brief(nodeId) === null && !store.trust.hasCertificateOf(nodeId)) return;
    throw denied(`node ${nodeId} is known already, and the token does not name it`);
  }

  #issue(nodeId: string, request: string): string {
    const { store, authority, logger } = this.#parts;
    const key = readRequest(Buffer.from(request, 'base64'), nodeId);
    const { pem, serial, issuedAt, notAfter } = authority.issueForNode(nodeId, key);
    store.trust.addCertificate({ serial, nodeId, issuedAt, notAfter });
    logger.info({ nodeId, serial, notAfter: iso(notAfter) }, 'certificate issued');
    return pem;
  }
}

/** The answer may have been lost: the same key gets the same certificate, and nobody else anything. */
function repeated(used: NonNullable<TokenRow['used']>, nodeId: string, requestDigest: string): string {
  if (used.by === nodeId && used.requestDigest === requestDigest) return used.certificate;
  throw denied('it was used already');
}

function denied(reason: string): AgentError {
  return new AgentError('PERMISSION_DENIED', `The enrolment token is not good: ${reason}`, {
    hint: 'Make another one with `berth-scheduler token create`, with --node ID for a node that is known already.',
  });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
