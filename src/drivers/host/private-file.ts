/**
 * Secrets that an administrator keeps in files: read when they are needed, by one set of rules.
 *
 * The file is the agent's own and nobody else may read it; systemd's LoadCredential makes such files, too. What is wrong
 * with one is said with its path and never with its text.
 */
import { open } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';

const GROUP_AND_OTHERS = 0o077;

export interface PrivateFile {
  file: string;
  /** What it holds, as in `the credentials`. */
  what: string;
  /** Largest size, bytes. */
  limitBytes: number;
  /** How to make one. @default how to take away the rights of others */
  hint?: string;
}

/** @throws {AgentError} PERMISSION_DENIED: it is missing, may be read by others, or is too large. */
export async function readPrivateFile(wanted: PrivateFile): Promise<string> {
  const { file, limitBytes, hint = `chown root: ${file} && chmod 600 ${file}` } = wanted;
  try {
    await using handle = await open(file, 'r');
    const { size, mode, uid } = await handle.stat();
    if (uid !== process.geteuid?.() || (mode & GROUP_AND_OTHERS) !== 0)
      throw unusable(wanted, 'others may read it, or it is not the agent’s own', hint);
    if (size > limitBytes) throw unusable(wanted, `it is larger than ${limitBytes} bytes`, hint);
    return await handle.readFile('utf8');
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw unusable(wanted, `it cannot be read (${(error as NodeJS.ErrnoException).code})`, hint);
  }
}

/** Bytes of a key: AES-256, and as many of entropy. */
export const KEY_BYTES = 32;
const KEY_TEXT = new RegExp(`^[0-9a-f]{${2 * KEY_BYTES}}\\s*$`, 'i');

/**
 * A key of 64 hexadecimal digits.
 *
 * @param what What it is the key of, as in `the key of backups`.
 * @throws {AgentError} PERMISSION_DENIED, as readPrivateFile, or it is no such key
 */
export async function readPrivateKey(file: string, what: string): Promise<Buffer> {
  const hint = `Make one with: (umask 077; openssl rand -hex ${KEY_BYTES} > ${file}), and keep a copy elsewhere.`;
  const wanted = { file, what, hint, limitBytes: 4 * KEY_BYTES };
  const text = await readPrivateFile(wanted);
  if (!KEY_TEXT.test(text)) throw unusable(wanted, `it is not ${2 * KEY_BYTES} hexadecimal digits`, hint);
  return Buffer.from(text.trim(), 'hex');
}

/** @param why A clause without a full stop. */
export function unusable(
  { file, what }: Pick<PrivateFile, 'file' | 'what'>,
  why: string,
  hint?: string,
): AgentError {
  const options = hint === undefined ? {} : { hint };
  return new AgentError('PERMISSION_DENIED', `Cannot use ${what} in ${file}: ${why}`, options);
}
