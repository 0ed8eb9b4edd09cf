/**
 * Keys: what the disks of this node are encrypted with.
 *
 * A node has named keys. Each volume has a passphrase of its own, made of one of them and of the volume's id, so that
 * none has to be kept and one says nothing of another. Whoever asks for a passphrase hands it on where it is used, and
 * forgets it: it is in no journal, no file, no log, no argument and no environment.
 */
import { AgentError } from '../../model/errors.ts';

/** By which key a volume, or a file of it, is encrypted. */
export interface KeyOfVolume {
  volumeId: string;
  /** Name of the node's key. */
  key: string;
}

export interface Keys {
  /** Those of the configuration, whether they can be read or not. */
  readonly names: readonly string[];
  /**
   * What opens the files of a volume: printable ASCII.
   *
   * @throws {AgentError} NOT_FOUND: this node has no such key. PERMISSION_DENIED: its file can't be used.
   */
  passphrase(of: KeyOfVolume): Promise<string>;
  /** Whether a key can be used. @throws {AgentError} As `passphrase`. */
  check(name: string): Promise<void>;
  /**
   * A key of another use, of 64 hexadecimal digits in a file that only the agent's user may read.
   *
   * @param what What it is the key of, as in `the key of backups`.
   * @throws {AgentError} PERMISSION_DENIED: the file can't be used.
   */
  readFile(file: string, what: string): Promise<Buffer>;
}

/** What a caller is told who names a key that there is not. */
export function unknownKey(name: string, names: readonly string[]): AgentError {
  const there = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
  return new AgentError('NOT_FOUND', `This node has no encryption key ${name}; ${there}`, {
    hint: 'Add it to the configuration as a [[keys]] section, with its file, and restart berthd.',
  });
}
