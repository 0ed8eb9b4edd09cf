/**
 * The exchange of a token for a certificate, over TLS to a scheduler that nobody has vouched for yet but the token.
 *
 *   1. A connection that trusts nobody, on which nothing is said: the chain that the scheduler shows has the certificate of
 *      its authority, which is known by the digest in the token.
 *   2. A connection that trusts that authority alone, and the name in the address: on it the secret is told.
 *
 * The work of proving is the TLS library's both times; here is one comparison of digests.
 */
import { createHash } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { ENROL_PATH, type EnrolmentToken, IssuedCertificate } from '../../model/enrolment.ts';
import { AgentError, type ErrorBody } from '../../model/errors.ts';
import { parseJson } from '../../model/json.ts';
import { ErrorBodySchema } from '../../model/operation.ts';
import { findFault, parse } from '../../model/validate.ts';
import { wordsOf } from '../link/faults.ts';

/** A handshake and an answer from a database. Milliseconds. */
const TIMEOUT_MS = 15_000;
const ANSWER_BYTES_LIMIT = 64 * 1024;
/** Certificates of a chain that are looked at. */
const CHAIN_LIMIT = 8;

/** The authority's certificate, PEM. @throws {AgentError} UNAVAILABLE. PERMISSION_DENIED: it is not the token's. */
export async function findAuthority({ url, authority }: EnrolmentToken): Promise<string> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const socket = connect({
    host,
    port: Number(port || 443),
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  });
  try {
    await handshake(socket, url);
    const found = chainOf(socket).find(({ raw }) => digestOf(raw) === authority);
    if (found !== undefined) return pemOf(found.raw);
    throw new AgentError('PERMISSION_DENIED', `The scheduler at ${url} is not the one that made the token`, {
      hint: 'Something may be between node and scheduler; or the token is of another scheduler.',
    });
  } finally {
    socket.destroy();
  }
}

/** @param authority PEM @returns The certificate, PEM. @throws {AgentError} The scheduler's refusal, or UNAVAILABLE. */
export async function exchange(
  { url, secret }: EnrolmentToken,
  { authority, nodeId, request }: { authority: string; nodeId: string; request: string },
): Promise<string> {
  const body = JSON.stringify({ secret, nodeId, request });
  const answer = await post(new URL(ENROL_PATH, url.replace(/^wss/, 'https')), body, authority);
  return parse(IssuedCertificate, answer, 'answer of the scheduler').certificate;
}

function handshake(socket: TLSSocket, url: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no handshake in ${TIMEOUT_MS / 1000} s`)));
  socket.once('secureConnect', resolve);
  socket.once('error', (cause) =>
    reject(new AgentError('UNAVAILABLE', `Cannot reach the scheduler at ${url}`, { cause })),
  );
  socket.once('close', () => reject(new AgentError('UNAVAILABLE', `The scheduler at ${url} has hung up`)));
  return promise;
}

function chainOf(socket: TLSSocket): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  let at: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && chain.length < CHAIN_LIMIT) {
    chain.push(at);
    at = at.issuerCertificate === at ? undefined : at.issuerCertificate;
  }
  return chain;
}

async function post(url: URL, body: string, ca: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const failed = (cause: Error) =>
    reject(
      cause instanceof AgentError
        ? cause
        : new AgentError('UNAVAILABLE', `Cannot enrol at ${url.host}: ${wordsOf(cause)}`),
    );
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const options = { method: 'POST', headers, ca, agent: false, minVersion: 'TLSv1.3' } as const;
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const sent = httpsRequest(url, { ...options, signal }, (response) => {
    let text = '';
    response.on('data', (chunk) => {
      text += String(chunk);
      if (text.length > ANSWER_BYTES_LIMIT) response.destroy(new Error('its answer is too large'));
    });
    response.on('error', failed);
    response.on('end', () => settle(response.statusCode ?? 0, text).then(resolve, failed));
  });
  sent.on('error', failed);
  sent.end(body);
  return promise;
}

async function settle(status: number, text: string): Promise<unknown> {
  const value = parseJson(text) as { error?: unknown };
  if (status === 200) return value;
  if (findFault(ErrorBodySchema, value.error) === null) throw AgentError.fromBody(value.error as ErrorBody);
  throw new AgentError('UNAVAILABLE', `The scheduler answered with status ${status}`);
}

function digestOf(raw: Buffer): string {
  return createHash('sha256').update(raw).digest('hex');
}

function pemOf(raw: Buffer): string {
  const lines = raw.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
