/**
 * What certificates of Berth say, in one place for both sides: object identifiers, names, and how a node is named. Pure.
 */
import { AgentError } from '../errors.ts';
import { oid, sequence, TAG, tlv } from './der.ts';

/** A certificate is valid from this long before it was made: clocks of a fleet differ by some minutes. */
export const BACKDATED_MS = 5 * 60_000;

/** @see RFC 5758, 3.2 */
export const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
/** The one curve: P-256 is what every TLS stack and every HSM has. */
export const CURVE = 'prime256v1';

/** @see RFC 5280, appendix A */
const COMMON_NAME = oid('2.5.4.3');

const NODE_URI = 'berth:node:';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A distinguished name of one common name. */
export function nameOf(commonName: string): Buffer {
  const attribute = sequence(COMMON_NAME, tlv(TAG.utf8, Buffer.from(commonName)));
  return sequence(tlv(TAG.set, attribute));
}

export function nodeUri(nodeId: string): string {
  return `${NODE_URI}${nodeId}`;
}

/**
 * The node that a certificate is of.
 *
 * @param subjectAltName As Node tells it, such as `DNS:host, URI:berth:node:…`.
 * @throws {AgentError} PERMISSION_DENIED: it names no node, or more than one.
 */
export function nodeOfCertificate(subjectAltName: string | undefined): string {
  // Node quotes a name that could be taken for several.
  const bare = (subjectAltName ?? '').replaceAll(/"(?:[^"\\]|\\.)*"/g, '');
  const names = bare.split(', ').filter((name) => name.startsWith(`URI:${NODE_URI}`));
  const id = names[0]?.slice(`URI:${NODE_URI}`.length) ?? '';
  if (names.length === 1 && UUID.test(id)) return id;
  throw new AgentError('PERMISSION_DENIED', 'The certificate names no node, or more than one', {
    hint: `It needs one subject alternative name URI:${NODE_URI}<id of the node>.`,
  });
}
