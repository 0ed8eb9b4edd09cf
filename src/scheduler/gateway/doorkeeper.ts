/**
 * Who may come in as an agent: by a certificate where nodes have them, else by the bearer token.
 *
 * The certificate is judged here and not by the TLS handshake, so that one who is turned away is told why, with the
 * scheduler's clock where it is about time. Nothing is said or taken before.
 */
import type { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { AgentError } from '../../model/errors.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../model/wire.ts';
import { nodeOfCertificate } from '../../model/x509/names.ts';
import { type Clock, timestamp } from '../clock.ts';
import type { BearerCheck } from '../token.ts';

/** Why a request for an upgrade is none for the endpoint of agents; null where it is one. */
export function misdirected({ url, headers }: IncomingMessage): AgentError | null {
  if (url !== AGENT_PATH) return new AgentError('NOT_FOUND', `Agents connect to ${AGENT_PATH}`);
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  if (offered.includes(SUBPROTOCOL)) return null;
  return new AgentError('INVALID_ARGUMENT', `Only the subprotocol ${SUBPROTOCOL} is spoken here`);
}

export interface DoorkeeperParts {
  clock: Clock;
  bearer: BearerCheck;
  /** What agents show. */
  agentsShow: 'certificate' | 'bearer';
  /** Says whether a certificate that is in order is still good. @throws {AgentError} PERMISSION_DENIED */
  assertGood?: (serial: string, nodeId: string) => void;
}

export class Doorkeeper {
  readonly #parts: DoorkeeperParts;

  constructor(parts: DoorkeeperParts) {
    this.#parts = parts;
  }

  /**
   * @returns The node that the caller has proven to be; null where a bearer token proves only that it may come.
   * @throws {AgentError} PERMISSION_DENIED
   */
  admit(request: IncomingMessage): string | null {
    if (this.#parts.agentsShow === 'certificate') return this.#nodeOf(request.socket as TLSSocket);
    if (this.#parts.bearer.accepts(request.headers.authorization)) return null;
    throw new AgentError('PERMISSION_DENIED', 'A bearer token is needed, and this is not it');
  }

  #nodeOf(socket: TLSSocket): string {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) {
      throw new AgentError('PERMISSION_DENIED', "A node's certificate is needed, and none was shown", {
        hint: 'Enrol the node: berth-scheduler token create, then berth node enrol.',
      });
    }
    if (!socket.authorized) throw this.#notInOrder(String(socket.authorizationError), certificate);
    const nodeId = nodeOfCertificate(certificate.subjectAltName);
    this.#parts.assertGood?.(certificate.serialNumber, nodeId);
    return nodeId;
  }

  #notInOrder(code: string, certificate: X509Certificate): AgentError {
    const { validFrom: from, validTo: to } = certificate;
    const isAboutTime = code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
    if (!isAboutTime) return new AgentError('PERMISSION_DENIED', `The certificate is not in order: ${code}`);
    const words = `it is valid from ${iso(from)} to ${iso(to)}, and the scheduler's clock says ${timestamp(this.#parts.clock)}`;
    return new AgentError('PERMISSION_DENIED', `The certificate is not valid now: ${words}`, {
      hint: 'Compare the clocks of both; enrol the node anew if the certificate has run out.',
    });
  }
}

function iso(text: string): string {
  return new Date(text).toISOString();
}
