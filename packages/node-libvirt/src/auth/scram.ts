/**
 * The SASL mechanism SCRAM: client and server prove to each other that they know the password, and neither shows it.
 *
 *   client                                         server
 *   n,,n=user,r=NONCE                        ──►
 *                                            ◄──   r=NONCE…,s=salt,i=count
 *   c=biws,r=NONCE…,p=proof                  ──►
 *                                            ◄──   v=signature, checked here
 *
 * Without channel binding: it proves that the server knows the password, not that nobody sits in between.
 *
 * @see RFC 5802, RFC 7677
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import type { Credentials } from './credentials.ts';
import { type SaslClient, SaslError } from './mechanism.ts';
import { saslprep } from './saslprep.ts';

/** Mechanisms, the strongest first, and their hashes as OpenSSL calls them. */
export const SCRAM_HASHES = {
  'SCRAM-SHA-512': 'sha512',
  'SCRAM-SHA-256': 'sha256',
  'SCRAM-SHA-1': 'sha1',
} as const;

export type ScramName = keyof typeof SCRAM_HASHES;

/** Neither binds to the channel nor acts for another user. */
const GS2_HEADER = 'n,,';

/** Rounds of hashing: fewer make the proof worth guessing at. @see RFC 7677, 4 */
const ITERATIONS_MIN = 4_096;

/** More would let a server keep a thread of ours busy for over a second. */
const ITERATIONS_MAX = 1_000_000;

/** Bytes of a server's message. A nonce, a salt and a number are a hundred. */
const MESSAGE_MAX_BYTES = 4_096;

const NONCE_BYTES = 24;

const derive = promisify(pbkdf2);

interface ServerFirst {
  nonce: string;
  salt: Buffer;
  iterations: number;
}

export class ScramClient implements SaslClient {
  readonly #hash: string;
  readonly #password: string;
  readonly #nonce: string;
  /** Our first message without its header. */
  readonly #first: string;
  /** What the server's last message has to be; null until our last one has been made. */
  #expected: Buffer | null = null;
  #isDone = false;

  /** @param nonce Not to be used twice. @default random */
  constructor(name: ScramName, { username, password }: Credentials, nonce = randomNonce()) {
    this.#hash = SCRAM_HASHES[name];
    this.#password = saslprep(password, 'password');
    this.#nonce = nonce;
    const user = saslprep(username, 'username').replaceAll('=', '=3D').replaceAll(',', '=2C');
    this.#first = `n=${user},r=${nonce}`;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  start(): Buffer {
    return Buffer.from(GS2_HEADER + this.#first, 'utf8');
  }

  async step(challenge: Buffer | null): Promise<Buffer | null> {
    const text = textOf(challenge);
    if (this.#expected === null) return this.#final(text);
    this.#check(text, this.#expected);
    return null;
  }

  async #final(text: string): Promise<Buffer> {
    const { nonce, salt, iterations } = parseServerFirst(text, this.#nonce);
    const withoutProof = `c=${Buffer.from(GS2_HEADER).toString('base64')},r=${nonce}`;
    const message = `${this.#first},${text},${withoutProof}`;
    const length = createHash(this.#hash).digest().length;
    const salted = await derive(this.#password, salt, iterations, length, this.#hash);
    const clientKey = this.#hmac(salted, 'Client Key');
    const storedKey = createHash(this.#hash).update(clientKey).digest();
    const signature = this.#hmac(storedKey, message);
    const proof = clientKey.map((byte, index) => byte ^ signature[index]!);
    this.#expected = this.#hmac(this.#hmac(salted, 'Server Key'), message);
    return Buffer.from(`${withoutProof},p=${Buffer.from(proof).toString('base64')}`, 'utf8');
  }

  #check(text: string, expected: Buffer): void {
    const [, kind, value = ''] = /^([ve])=([^,]*)(?:,|$)/.exec(text) ?? [];
    if (kind === 'e') throw new SaslError('auth', 'the server refused the proof');
    const signature = kind === 'v' ? fromBase64(value) : null;
    if (signature === null) throw malformed('last');
    if (signature.length !== expected.length || !timingSafeEqual(signature, expected))
      throw new SaslError(
        'auth',
        'the server does not know the password: it is not the one that it claims to be',
      );
    this.#isDone = true;
  }

  #hmac(key: Buffer, text: string): Buffer {
    return createHmac(this.#hash, key).update(text).digest();
  }
}

function randomNonce(): string {
  return randomBytes(NONCE_BYTES).toString('base64');
}

function textOf(challenge: Buffer | null): string {
  if (challenge === null || challenge.length > MESSAGE_MAX_BYTES) throw malformed('next');
  return challenge.toString('utf8');
}

/** An extension that must be understood (m=) does not match. */
function parseServerFirst(text: string, ownNonce: string): ServerFirst {
  const [, nonce, base64 = '', digits] = /^r=([!-+\--~]+),s=([^,]+),i=([1-9]\d{0,8})(?:,|$)/.exec(text) ?? [];
  const salt = fromBase64(base64);
  if (nonce === undefined || salt === null || salt.length === 0) throw malformed('first');
  if (!nonce.startsWith(ownNonce) || nonce.length === ownNonce.length)
    throw new SaslError('protocol', "the server's nonce does not continue ours");
  const iterations = Number(digits);
  if (iterations < ITERATIONS_MIN || iterations > ITERATIONS_MAX)
    throw new SaslError(
      'protocol',
      `the server wants ${iterations} rounds of hashing, ${ITERATIONS_MIN} to ${ITERATIONS_MAX} are accepted`,
    );
  return { nonce, salt, iterations };
}

function fromBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : null;
}

function malformed(which: string): SaslError {
  return new SaslError('protocol', `the server's ${which} message of SCRAM is malformed`);
}
