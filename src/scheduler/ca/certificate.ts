/**
 * Certificates, as the scheduler's own authority makes them: X.509 v3, P-256, ECDSA with SHA-256. Pure.
 *
 * A node's is for clients alone and the scheduler's for servers alone, so that none can stand in for the other.
 *
 * @see RFC 5280
 */
import { createHash, type KeyObject, sign } from 'node:crypto';
import { isIP } from 'node:net';
import {
  bitString,
  contextBytes,
  contextItems,
  integer,
  oid,
  sequence,
  TAG,
  time,
  tlv,
} from '../../model/x509/der.ts';
import { ECDSA_WITH_SHA256, nameOf } from '../../model/x509/names.ts';

export type Profile = 'authority' | 'node' | 'scheduler';

/** Names of general names. @see RFC 5280, 4.2.1.6 */
const DNS_NAME = 2;
const URI = 6;
const IP_ADDRESS = 7;

const BASIC_CONSTRAINTS = oid('2.5.29.19');
const KEY_USAGE = oid('2.5.29.15');
const EXTENDED_KEY_USAGE = oid('2.5.29.37');
const SUBJECT_ALT_NAME = oid('2.5.29.17');
const SUBJECT_KEY = oid('2.5.29.14');
const AUTHORITY_KEY = oid('2.5.29.35');
const FOR_SERVERS = oid('1.3.6.1.5.5.7.3.1');
const FOR_CLIENTS = oid('1.3.6.1.5.5.7.3.2');

const TRUE = tlv(TAG.boolean, Buffer.from([0xff]));
/** keyCertSign and cRLSign; digitalSignature. */
const SIGNS_CERTIFICATES = bitString(Buffer.from([0x06]), 1);
const SIGNS = bitString(Buffer.from([0x80]), 7);

export interface CertificateParts {
  profile: Profile;
  /** Positive, at most 20 bytes. */
  serial: Buffer;
  subject: string;
  publicKey: KeyObject;
  /** Milliseconds since the epoch. */
  notBefore: number;
  notAfter: number;
  names?: { uris?: readonly string[]; hosts?: readonly string[] };
  issuer: { subject: string; publicKey: KeyObject; privateKey: KeyObject };
}

/** @returns DER */
export function makeCertificate(parts: CertificateParts): Buffer {
  const { serial, subject, publicKey, notBefore, notAfter, issuer } = parts;
  const signed = sequence(
    contextItems(0, integer(Buffer.from([2]))),
    integer(serial),
    ECDSA_WITH_SHA256,
    nameOf(issuer.subject),
    sequence(time(notBefore), time(notAfter)),
    nameOf(subject),
    publicKey.export({ format: 'der', type: 'spki' }),
    contextItems(3, sequence(...extensionsOf(parts))),
  );
  return sequence(signed, ECDSA_WITH_SHA256, bitString(sign('sha256', signed, issuer.privateKey)));
}

export function pemOf(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function extensionsOf({ profile, publicKey, issuer, names }: CertificateParts): Buffer[] {
  const isAuthority = profile === 'authority';
  const constraints = isAuthority ? sequence(TRUE, integer(Buffer.from([0]))) : sequence();
  const forWhom = sequence(profile === 'scheduler' ? FOR_SERVERS : FOR_CLIENTS);
  return [
    extension(BASIC_CONSTRAINTS, constraints, 'critical'),
    extension(KEY_USAGE, isAuthority ? SIGNS_CERTIFICATES : SIGNS, 'critical'),
    ...(isAuthority ? [] : [extension(EXTENDED_KEY_USAGE, forWhom)]),
    extension(SUBJECT_KEY, tlv(TAG.octetString, keyIdentifier(publicKey))),
    extension(AUTHORITY_KEY, sequence(contextBytes(0, keyIdentifier(issuer.publicKey)))),
    ...(names === undefined ? [] : [extension(SUBJECT_ALT_NAME, sequence(...generalNames(names)))]),
  ];
}

function extension(id: Buffer, value: Buffer, importance: 'critical' | 'plain' = 'plain'): Buffer {
  return sequence(id, ...(importance === 'critical' ? [TRUE] : []), tlv(TAG.octetString, value));
}

function generalNames({ uris = [], hosts = [] }: NonNullable<CertificateParts['names']>): Buffer[] {
  return [
    ...uris.map((uri) => contextBytes(URI, Buffer.from(uri, 'latin1'))),
    ...hosts.map((host) =>
      isIP(host) === 0
        ? contextBytes(DNS_NAME, Buffer.from(host, 'latin1'))
        : contextBytes(IP_ADDRESS, addressBytes(host)),
    ),
  ];
}

/** The bytes of an address, IPv6 by way of its canonical URL form. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const groups = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = groups.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  const all = tail === undefined ? before : [...before, ...zeros, ...after];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

/** @see RFC 7093, 2 (1): 160 bits of SHA-256 */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha256')
    .update(key.export({ format: 'der', type: 'spki' }))
    .digest()
    .subarray(0, 20);
}
