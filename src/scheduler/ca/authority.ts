/**
 * The scheduler's own small authority: one key and one certificate in a folder, from which nodes and the scheduler
 * itself have theirs.
 *
 * The key of the authority is a file for its owner alone. The scheduler's own key for TLS is made anew at each start, and
 * with each new certificate; it is in memory only.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { BACKDATED_MS, CURVE, nodeUri } from '../../model/x509/names.ts';
import { replaceDurably } from '../../sqlite/set-aside.ts';
import type { Clock } from '../clock.ts';
import { makeCertificate, pemOf } from './certificate.ts';

const KEY_FILE = 'ca.key';
const CERTIFICATE_FILE = 'ca.pem';
const DAY_MS = 86_400_000;
/** As long as the machines live; every node is pinned to it. */
const AUTHORITY_DAYS = 20 * 365;
/** It is renewed at two thirds of it, without a restart. */
const SCHEDULER_DAYS = 90;
/** Bytes of a serial number; RFC 5280 allows 20. */
const SERIAL_BYTES = 16;

export interface Issued {
  pem: string;
  /** As Node tells it of a peer. */
  serial: string;
  issuedAt: number;
  notAfter: number;
}

export interface ServerIdentity {
  /** The certificate, and that of the authority behind it, by which nodes find it before they know it. */
  cert: string;
  key: string;
  /** Milliseconds since the epoch. */
  renewAt: number;
}

export class Authority {
  readonly #clock: Clock;
  readonly #keys: { publicKey: KeyObject; privateKey: KeyObject };
  readonly #subject: string;
  readonly #lifetimeMs: number;
  /** Its certificate, PEM. */
  readonly pem: string;
  /** SHA-256 of its certificate, hexadecimal: what a token pins. */
  readonly digest: string;

  /**
   * Opens the authority of a folder, and makes one where there is none.
   *
   * @param options.lifetimeMs Of the certificates of nodes.
   * @throws {AgentError} INVALID_ARGUMENT: the files in it are none of an authority.
   */
  constructor({ folder, clock, lifetimeMs }: { folder: string; clock: Clock; lifetimeMs: number }) {
    this.#clock = clock;
    this.#lifetimeMs = lifetimeMs;
    this.#keys = loadOrMakeKey(folder);
    const certificate = this.#loadOrMake(folder);
    this.pem = certificate.toString();
    this.digest = createHash('sha256').update(certificate.raw).digest('hex');
    this.#subject = certificate.subject.replace(/^CN=/, '');
  }

  issueForNode(nodeId: string, publicKey: KeyObject): Issued {
    return this.#issue({
      profile: 'node',
      subject: nodeId,
      publicKey,
      lifetimeMs: this.#lifetimeMs,
      names: { uris: [nodeUri(nodeId)] },
    });
  }

  /** @param hosts Names and addresses that the scheduler is reached by. */
  issueForScheduler(hosts: readonly string[]): ServerIdentity {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: CURVE });
    const lifetimeMs = SCHEDULER_DAYS * DAY_MS;
    const subject = hosts[0] ?? 'berth-scheduler';
    const { pem } = this.#issue({ profile: 'scheduler', subject, publicKey, lifetimeMs, names: { hosts } });
    return {
      cert: pem + this.pem,
      key: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
      renewAt: this.#clock.now() + (lifetimeMs * 2) / 3,
    };
  }

  #issue(parts: {
    profile: 'node' | 'scheduler';
    subject: string;
    publicKey: KeyObject;
    lifetimeMs: number;
    names: { uris?: string[]; hosts?: readonly string[] };
  }): Issued {
    const { lifetimeMs, ...rest } = parts;
    const issuedAt = this.#clock.now();
    const serial = newSerial();
    const notAfter = Math.floor((issuedAt + lifetimeMs) / 1000) * 1000;
    const issuer = { subject: this.#subject, ...this.#keys };
    const der = makeCertificate({ ...rest, serial, notBefore: issuedAt - BACKDATED_MS, notAfter, issuer });
    return { pem: pemOf(der), serial: serial.toString('hex').toUpperCase(), issuedAt, notAfter };
  }

  #loadOrMake(folder: string): X509Certificate {
    const path = join(folder, CERTIFICATE_FILE);
    if (!existsSync(path)) replaceDurably(folder, CERTIFICATE_FILE, this.#makeOwn());
    const certificate = new X509Certificate(readFileSync(path));
    if (certificate.ca && certificate.checkPrivateKey(this.#keys.privateKey)) return certificate;
    throw new AgentError(
      'INVALID_ARGUMENT',
      `${path} is not the certificate of an authority with the key beside it`,
    );
  }

  #makeOwn(): string {
    const subject = `Berth ${randomBytes(4).toString('hex')}`;
    const notBefore = this.#clock.now() - BACKDATED_MS;
    const notAfter = notBefore + AUTHORITY_DAYS * DAY_MS;
    const { publicKey } = this.#keys;
    const issuer = { subject, ...this.#keys };
    const parts = { profile: 'authority', serial: newSerial(), subject, publicKey, issuer } as const;
    return pemOf(makeCertificate({ ...parts, notBefore, notAfter }));
  }
}

/** Never zero at its beginning, and never negative: so it is told the same everywhere. */
function newSerial(): Buffer {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] as number) & 0x3f) | 0x40;
  return bytes;
}

function loadOrMakeKey(folder: string): { publicKey: KeyObject; privateKey: KeyObject } {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, KEY_FILE);
  if (!existsSync(path)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: CURVE });
    replaceDurably(folder, KEY_FILE, privateKey.export({ format: 'pem', type: 'pkcs8' }) as string);
  }
  const privateKey = createPrivateKey(readFileSync(path));
  return { privateKey, publicKey: createPublicKey(privateKey) };
}
