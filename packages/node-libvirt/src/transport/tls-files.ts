/**
 * Finds and reads the certificates and the key of a TLS connection: those that the caller gave, or those in libvirt's
 * own places.
 *
 *   of the system   /etc/pki/CA/cacert.pem  /etc/pki/CA/cacrl.pem  /etc/pki/libvirt/clientcert.pem
 *                   /etc/pki/libvirt/private/clientkey.pem
 *   of a user       ~/.pki/libvirt/{cacert,cacrl,clientcert,clientkey}.pem, each before the system's; root has none
 *   pkipath=DIR     DIR/{cacert,cacrl,clientcert,clientkey}.pem, and nothing else
 *
 * The CA's list of revoked certificates may be missing, and outside of pkipath the client's certificate with its key.
 *
 * @see virNetTLSContextLocateCredentials, virnettlscontext.c; virnettlsconfig.h
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LibvirtUsageError } from '../errors.ts';

/** Options of the transport tls. */
export interface TlsOptions {
  /**
   * Certificate of the authority that signed the server's; several may follow one another. A path, or PEM itself.
   * As soon as `ca`, `cert` or `key` is given, libvirt's own places are not looked at.
   *
   * @default cacert.pem in libvirt's places
   */
  ca?: string | Uint8Array;
  /** This client's certificate, a path or PEM. @default clientcert.pem in libvirt's places, or none */
  cert?: string | Uint8Array;
  /** Its key, unencrypted, a path or PEM. @default clientkey.pem in libvirt's places, or none */
  key?: string | Uint8Array;
  /** The authority's list of revoked certificates, a path or PEM. @default cacrl.pem in libvirt's places, or none */
  crl?: string | Uint8Array;
  /**
   * Whether the server's certificate is checked: signed by `ca`, for this host, valid today. It goes before the URI's
   * `no_verify`. **false lets anyone on the way play the server, and read and change everything.**
   *
   * @default true
   */
  verify?: boolean;
}

/** What a connection is made with. */
export interface TlsMaterial {
  /** null only where the server is not checked. */
  ca: Pem | null;
  crl: Pem | null;
  identity: Identity | null;
}

export interface Pem {
  text: string;
  /** Where it came from, for error messages: a path, or "tls.ca". */
  origin: string;
}

export interface Identity {
  cert: Pem;
  key: Pem;
  certificate: X509Certificate;
}

export interface TlsPlaces {
  /** From the URI; null for libvirt's own places. */
  pkiPath: string | null;
  /** Folder of the user, which comes before the system's; null for root. */
  userDir: string | null;
  /** Folder of the system. */
  systemDir: string;
}

type Sources = Partial<Record<'ca' | 'crl' | 'cert' | 'key', Source>>;

/** A file, or PEM that the caller gave. */
type Source = { path: string } | { pem: Pem };

export function placesOf(pkiPath: string | null): TlsPlaces {
  const isRoot = process.geteuid?.() === 0;
  return { pkiPath, userDir: isRoot ? null : join(homedir(), '.pki', 'libvirt'), systemDir: '/etc/pki' };
}

/**
 * Reads all of it anew, so that a renewed certificate is found.
 *
 * @throws {LibvirtUsageError} A file is missing or cannot be read, or holds something else. It names the file.
 */
export async function loadTls(options: TlsOptions, places: TlsPlaces, verify: boolean): Promise<TlsMaterial> {
  if (typeof verify !== 'boolean')
    throw new LibvirtUsageError(`tls.verify is a boolean, got ${typeof verify}`);
  const sources = locate(options, places);
  if (verify && sources.ca === undefined)
    throw new LibvirtUsageError('tls.ca is missing: without it the server cannot be checked');
  if ((sources.cert === undefined) !== (sources.key === undefined))
    throw new LibvirtUsageError('tls.cert and tls.key belong together: give both, or none');
  const ca = verify ? await read(sources.ca, 'CA certificate') : null;
  if (ca !== null) certificateIn(ca);
  const crl = verify ? await read(sources.crl, 'revocation list') : null;
  return { ca, crl, identity: await readIdentity(sources) };
}

function locate(options: TlsOptions, places: TlsPlaces): Sources {
  const { ca, cert, key, crl } = options;
  if (ca !== undefined || cert !== undefined || key !== undefined) return given({ ca, cert, key, crl });
  const found = places.pkiPath === null ? inOwnPlaces(places) : inFolder(places.pkiPath);
  return { ...found, ...given({ crl }) };
}

function given(options: Record<string, string | Uint8Array | undefined>): Sources {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, sourceOf(`tls.${name}`, value)]));
}

function sourceOf(origin: string, value: unknown): Source {
  if (value instanceof Uint8Array) return { pem: { text: Buffer.from(value).toString('latin1'), origin } };
  if (typeof value !== 'string' || value === '' || value.includes('\0'))
    throw new LibvirtUsageError(`${origin} is a path or PEM, got ${typeof value}`);
  return value.includes('-----BEGIN ') ? { pem: { text: value, origin } } : { path: value };
}

function inFolder(dir: string): Sources {
  const at = (name: string) => ({ path: join(dir, name) });
  return {
    ca: at('cacert.pem'),
    ...present('crl', join(dir, 'cacrl.pem')),
    cert: at('clientcert.pem'),
    key: at('clientkey.pem'),
  };
}

function inOwnPlaces({ userDir, systemDir }: TlsPlaces): Sources {
  const system = (...names: string[]) => join(systemDir, ...names);
  const users = (name: string) => (userDir === null ? null : join(userDir, name));
  return {
    ca: { path: firstPresent(users('cacert.pem')) ?? system('CA', 'cacert.pem') },
    ...present('crl', firstPresent(users('cacrl.pem')) ?? system('CA', 'cacrl.pem')),
    ...(pair(users('clientcert.pem'), users('clientkey.pem')) ??
      pair(system('libvirt', 'clientcert.pem'), system('libvirt', 'private', 'clientkey.pem')) ??
      {}),
  };
}

function firstPresent(path: string | null): string | null {
  return path !== null && existsSync(path) ? path : null;
}

function present(name: 'crl', path: string): Sources {
  return existsSync(path) ? { [name]: { path } } : {};
}

function pair(cert: string | null, key: string | null): Sources | null {
  if (cert === null || key === null || !existsSync(cert) || !existsSync(key)) return null;
  return { cert: { path: cert }, key: { path: key } };
}

async function read(source: Source | undefined, what: string): Promise<Pem | null> {
  if (source === undefined) return null;
  if ('pem' in source) return source.pem;
  try {
    return { text: await readFile(source.path, 'latin1'), origin: source.path };
  } catch (cause) {
    throw new LibvirtUsageError(`cannot read the ${what} ${source.path}`, { cause });
  }
}

async function readIdentity(sources: Sources): Promise<Identity | null> {
  const cert = await read(sources.cert, 'client certificate');
  const key = await read(sources.key, "client certificate's key");
  if (cert === null || key === null) return null;
  const certificate = certificateIn(cert);
  if (!certificate.checkPrivateKey(keyIn(key)))
    throw new LibvirtUsageError(`${key.origin} is not the key of the certificate ${cert.origin}`);
  return { cert, key, certificate };
}

function certificateIn({ text, origin }: Pem): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch (cause) {
    throw new LibvirtUsageError(`${origin} holds no certificate in PEM`, { cause });
  }
}

function keyIn({ text, origin }: Pem): KeyObject {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    throw new LibvirtUsageError(`${origin} holds no unencrypted private key in PEM`, { cause });
  }
}
