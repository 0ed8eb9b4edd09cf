/**
 * Passphrases of encrypted volumes, as QEMU's tools are told them: in files of the kernel's memory that have no name.
 *
 *   keys ─▶ passphrase ─▶ open file without a name, for one user ─▶ descriptor of the child ─▶ --object secret,file=/dev/fd/N
 *
 * Command lines and environments are read by every user of the host, and files stay after a crash; such a file is gone
 * with the last descriptor of it. Its pages are as much on a disk as the memory of QEMU is: not at all, without swap.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { Keys } from '../contracts/keys.ts';
import { lent, ProcessError } from './exec.ts';
import type { SandboxUser } from './sandbox.ts';

/** A tmpfs that every Linux has, for POSIX shared memory. @see shm_overview(7) */
const MEMORY_FOLDER = '/dev/shm';
/** @see open(2), O_TMPFILE; asm-generic/fcntl.h */
const O_TMPFILE = constants.O_DIRECTORY | 0o20000000;
/** For its owner alone, the user that the tool runs as. */
const SECRET_MODE = 0o400;
/** What the secret is called within a tool. */
const SECRET_ID = 'key';

/**
 * How a file is encrypted. AES-256-XTS by LUKS, QEMU's defaults, said in full but for the time that its key derivation
 * takes: a passphrase of 256 random bits can't be guessed, however fast it is tried, and QEMU's two seconds would be
 * waited for whenever a volume is opened. Milliseconds.
 */
const LUKS_OPTIONS =
  'encrypt.format=luks,encrypt.cipher-alg=aes-256,encrypt.cipher-mode=xts,encrypt.ivgen-alg=plain64,encrypt.hash-alg=sha256,encrypt.iter-time=10';

/**
 * QEMU measures how fast it derives keys by the CPU time of its thread, and gives up where the kernel has not counted any
 * yet: one run in eight to one in three, after some 15 ms. Twelve in a row were seen on a busy machine, more than chance
 * would have: so there are many tries, and each begins at another moment between two ticks of the kernel.
 */
const MEASURED_WITHIN = 60;
/** The longest that Linux has (HZ 100), milliseconds. */
const TICK_MS = 10;
const NOT_MEASURED = /Unable to get accurate CPU usage/;
const WRONG_KEY = /Invalid password, cannot unlock any keyslot/;

/** An open file with a passphrase in it; closed, it is gone. */
export interface LentKey extends AsyncDisposable {
  file: FileHandle;
}

export class Passphrases {
  readonly #keys: Keys;
  readonly #user: SandboxUser | null;

  /** @param user Whom tools run as that are in their cage. */
  constructor(keys: Keys, user: SandboxUser | null) {
    this.#keys = keys;
    this.#user = user;
  }

  /** Null for a volume that is not encrypted. @throws {AgentError} As Keys.passphrase. */
  async lend(volumeId: string, encryption: Encryption | null | undefined): Promise<LentKey | null> {
    if (encryption === null || encryption === undefined) return null;
    const passphrase = await this.#keys.passphrase({ volumeId, key: encryption.key });
    const file = await open(MEMORY_FOLDER, O_TMPFILE | constants.O_RDWR, SECRET_MODE);
    try {
      await file.writeFile(passphrase);
      if (this.#user !== null) await file.chown(this.#user.uid, this.#user.gid);
      return { file, [Symbol.asyncDispose]: () => file.close() };
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}

/** Arguments that tell a tool of a passphrase. @param place Its place among the files that the tool is lent. */
export function secretArgs(key: LentKey | null, place: number, id = SECRET_ID): string[] {
  return key === null ? [] : ['--object', `secret,id=${id},file=${lent(place)}`];
}

/** Options of an image that are added to those of its driver, each with what it is of. By the format one in clear is refused. */
export function keyOption(key: LentKey | null, at = ''): string[] {
  return key === null ? [] : [`${at}encrypt.format=luks`, `${at}encrypt.key-secret=${SECRET_ID}`];
}

/** How a new file is encrypted, to be added to its other options. */
export function luksOptions(key: LentKey | null, id = SECRET_ID): string {
  return key === null ? '' : `,${LUKS_OPTIONS},encrypt.key-secret=${id}`;
}

/** A qcow2 file by its name, for tools that are told more than its format. */
export function imageOptions(key: LentKey | null, path: string): string[] {
  if (key === null) return ['-f', 'qcow2', path];
  return ['--image-opts', ['driver=qcow2', ...keyOption(key), ...fileOptions(path)].join(',')];
}

/** The same without what its header says that it stands on. */
export function aloneByKey(filename: string): string {
  const file = { driver: 'file', filename };
  const encrypt = { format: 'luks', 'key-secret': SECRET_ID };
  return `json:${JSON.stringify({ driver: 'qcow2', backing: null, encrypt, file })}`;
}

/** @param at What the file is of, as `backing.`. */
export function fileOptions(path: string, at = ''): string[] {
  return [`${at}file.driver=file`, `${at}file.filename=${path.replaceAll(',', ',,')}`];
}

/** Descriptors to be lent. */
export function filesOf(...keys: (LentKey | null)[]): number[] {
  return keys.flatMap((key) => (key === null ? [] : [key.file.fd]));
}

/** Runs what makes encrypted files, again where QEMU could not measure its own speed. */
export async function untilMeasured<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (attempt === MEASURED_WITHIN || !NOT_MEASURED.test(wordsOf(error))) throw error;
      await pause(Math.random() * TICK_MS);
    }
  }
}

/** What a tool's failure on an encrypted file means. */
export function explainKey(
  error: unknown,
  volumeId: string,
  encryption: Encryption | null | undefined,
): unknown {
  if (encryption === null || encryption === undefined || !WRONG_KEY.test(wordsOf(error))) return error;
  return wrongKey(volumeId, encryption);
}

export function wrongKey(volumeId: string, { key }: Encryption): AgentError {
  return new AgentError('PERMISSION_DENIED', `Key ${key} of this node does not open volume ${volumeId}`, {
    hint: `Put back the file that key ${key} had when the volume was made: without it the volume is lost.`,
  });
}

function wordsOf(error: unknown): string {
  const cause = error instanceof AgentError ? error.cause : error;
  return cause instanceof ProcessError ? cause.stderr : '';
}
