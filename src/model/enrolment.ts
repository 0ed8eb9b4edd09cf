/**
 * Enrolment: how a node that has nothing gets a certificate of its scheduler's authority.
 *
 *   scheduler: token { its address, SHA-256 of its authority's certificate, a secret }  ── by hand ──▶ node
 *   node: makes a key, which never leaves it ─▶ connects, finds the authority by its digest
 *         ─▶ POST /v1/enrol { secret, node, request } over TLS to that authority alone ─▶ certificate
 *
 * The secret is good once. The same request with the same secret gets the same certificate again, since its answer
 * may have been lost on the way; the key that it is for has to be the same.
 */
import { Id, Sha256, strict } from './common.ts';
import { AgentError } from './errors.ts';
import { parseJson } from './json.ts';
import { type Static, Type } from './schema.ts';
import { findFault } from './validate.ts';

export const ENROL_PATH = '/v1/enrol';
/** Largest text of a token, characters: it has some 250. */
export const TOKEN_LIMIT = 4_096;
const PREFIX = 'berth1.';

/** A certificate request, DER in base64. */
const Request = Type.String({
  pattern: '^[A-Za-z0-9+/]{1,5464}={0,2}$',
  description: 'PKCS #10, DER, base64',
});

export const EnrolRequest = strict({
  secret: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$', writeOnly: true, description: 'of a token' }),
  nodeId: Id,
  request: Request,
});
export type EnrolRequest = Static<typeof EnrolRequest>;

export const RenewRequest = strict({ request: Request });
export type RenewRequest = Static<typeof RenewRequest>;

export const IssuedCertificate = strict({
  certificate: Type.String({ maxLength: 16_384, description: 'PEM' }),
});
export type IssuedCertificate = Static<typeof IssuedCertificate>;

const Token = strict({
  url: Type.String({ pattern: '^wss://[^\\s/@?#]{1,300}$' }),
  authority: Sha256,
  secret: EnrolRequest.properties.secret,
});

/** What a token says; its secret is in no message and no log. */
export type EnrolmentToken = Static<typeof Token>;

export function writeToken(token: EnrolmentToken): string {
  return PREFIX + Buffer.from(JSON.stringify(token)).toString('base64url');
}

/** @throws {AgentError} INVALID_ARGUMENT: it is none; nothing of it is in the message. */
export function readToken(text: string): EnrolmentToken {
  const bare = text.trim();
  if (bare.length > TOKEN_LIMIT || !bare.startsWith(PREFIX)) throw noToken();
  let value: unknown;
  try {
    value = parseJson(Buffer.from(bare.slice(PREFIX.length), 'base64url').toString('utf8'));
  } catch {
    throw noToken(); // its cause would have a part of the secret
  }
  if (findFault(Token, value) !== null) throw noToken();
  return value as EnrolmentToken;
}

function noToken(): AgentError {
  return new AgentError('INVALID_ARGUMENT', 'This is no enrolment token', {
    hint: 'Make one with `berth-scheduler token create`, and give it whole.',
  });
}
