/**
 * The bearer token that agents and callers of the HTTP API show: kept in a file, compared in constant time.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { AgentError } from '../model/errors.ts';

/** Random bytes of a new token: more than can be guessed. */
const TOKEN_BYTES = 32;
/** What an Authorization header can carry, at a length that is not guessed by accident. */
const TOKEN_PATTERN = /^[\x21-\x7e]{16,512}$/;

/**
 * Reads the token from `path`; where no file is there, makes one of mode 0600 with a random token.
 *
 * @throws {AgentError} INVALID_ARGUMENT: the file holds no usable token.
 */
export function loadOrCreateToken(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    writeFileSync(path, `${randomBytes(TOKEN_BYTES).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const token = readFileSync(path, 'utf8').trim();
  if (TOKEN_PATTERN.test(token)) return token;
  throw new AgentError('INVALID_ARGUMENT', `The token file ${path} holds no usable token`, {
    hint: 'Put 16 to 512 printable ASCII characters without spaces into it, or delete it to get a new one.',
  });
}

/** Tells whether an Authorization header shows the token, without telling how much of it was right. */
export class BearerCheck {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = digestOf(token);
  }

  accepts(authorization: string | undefined): boolean {
    const shown = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    return shown !== undefined && timingSafeEqual(digestOf(shown), this.#digest);
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
