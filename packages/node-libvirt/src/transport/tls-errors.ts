/**
 * Says why a TLS connection was not made, in words that name the certificate and the file. Pure.
 *
 * What one side's certificate causes is of kind 'auth'; everything else means that no libvirt with TLS is there.
 */
import type { X509Certificate } from 'node:crypto';
import type { LibvirtTransportError } from '../errors.ts';
import { cannotConnect, codeOf, reasonOf } from './opening.ts';
import type { TlsMaterial } from './tls-files.ts';

export interface PeerNames {
  peer: string;
  /** What the server's certificate has to be for. */
  host: string;
  material: TlsMaterial;
}

/** Codes of OpenSSL's check of the server's chain. @see X509_verify_cert_error_string(3), tls docs of Node.js */
const UNTRUSTED = [
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_UNTRUSTED',
  'CERT_SIGNATURE_FAILURE',
];

const CHAIN_REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its certificate, or that of its CA, has expired',
  CERT_NOT_YET_VALID: 'its certificate, or that of its CA, is not valid yet',
  CERT_REVOKED: 'its certificate has been revoked',
  CRL_HAS_EXPIRED: "the CA's revocation list has expired",
  CRL_NOT_YET_VALID: "the CA's revocation list is not valid yet",
  UNABLE_TO_GET_CRL: "the revocation list is not of the certificate's CA",
  INVALID_CA: 'the certificate that signed its certificate is not that of a CA',
  INVALID_PURPOSE: 'its certificate is not for servers',
  CERT_REJECTED: 'its certificate is not for servers',
  PATH_LENGTH_EXCEEDED: 'the chain of its certificate is too long',
};

/** The server did not like us, and said so. @see RFC 8446, 6.2 */
const REFUSED_BY_ALERT = /ALERT_.*CERTIFICATE|ALERT_UNKNOWN_CA|ALERT_ACCESS_DENIED/;

/** The error of a handshake that failed. */
export function handshakeError(error: unknown, names: PeerNames): LibvirtTransportError {
  const code = codeOf(error);
  const chain = chainReason(code, error, names);
  if (chain !== null) return cannotConnect('auth', names.peer, chain, error);
  if (REFUSED_BY_ALERT.test(code)) return refusedByServer(names, error);
  if (code === 'ECONNRESET' || code === 'EPIPE')
    return cannotConnect('unreachable', names.peer, 'it hung up during the TLS handshake', error);
  const why = code.startsWith('ERR_SSL_') ? 'it speaks no TLS that Node.js speaks' : reasonOf(error);
  return cannotConnect('unreachable', names.peer, why, error);
}

/**
 * The handshake went well, and then the server hung up instead of letting us in: its way to refuse a certificate.
 *
 * @see virNetServerClientCheckAccess, virnetserverclient.c
 */
export function refusedByServer({ peer, material }: PeerNames, cause?: unknown): LibvirtTransportError {
  const { identity } = material;
  const why =
    identity === null
      ? 'it did not let us in: it may want a client certificate, and none was found'
      : `it did not accept the client certificate ${identity.cert.origin}${blemish(identity.certificate)}`;
  return cannotConnect('auth', peer, why, cause);
}

function chainReason(code: string, error: unknown, { host, material }: PeerNames): string | null {
  if (UNTRUSTED.includes(code)) return `its certificate is not signed by ${material.ca?.origin}`;
  if (code !== 'ERR_TLS_CERT_ALTNAME_INVALID') return CHAIN_REASONS[code] ?? null;
  const { cert } = error as { cert?: { subjectaltname?: string; subject?: { CN?: unknown } } };
  const names = cert?.subjectaltname ?? String(cert?.subject?.CN ?? 'nothing');
  return `its certificate is not for ${host}, but for ${printable(names)}`;
}

/** What is visibly wrong with our own certificate. */
function blemish(certificate: X509Certificate): string {
  const now = Date.now();
  if (Date.parse(certificate.validTo) < now) return `, which expired on ${certificate.validTo}`;
  if (Date.parse(certificate.validFrom) > now) return `, which is valid from ${certificate.validFrom} on`;
  return '';
}

/** What a peer says of itself, in one line that ends. */
function printable(text: string): string {
  return text.slice(0, 200).replaceAll(/[^ -~]/g, '?');
}
