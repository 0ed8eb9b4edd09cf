/**
 * What an image source is, and the rules for all of them.
 *
 * Nothing of a source is trusted: what is no regular file is never opened, sizes are claims until the last
 * byte is read, and more than the limit is refused whatever was announced.
 */
import { AgentError } from '../../model/errors.ts';
import type { ObjectStore } from '../contracts/objects.ts';
import type { AddressGuard } from './address-guard.ts';

/**
 * Bytes handed on at once: what stays in a core's cache from read over hash to write. Measured: 1 MiB costs
 * three times the system time of 128 KiB, and 64 KiB costs twice.
 */
export const CHUNK_BYTES = 128 * 1024;

export interface SourceLimits {
  /** Largest image file, bytes. */
  imageBytes: number;
  /** Longest silence of a server, milliseconds. */
  idleMs: number;
  /** Folders that local sources may lie in, as real paths; null allows any. */
  folders: readonly string[] | null;
  /** The pool's own folder: another tenant's volume is no source. */
  poolPath: string;
  addresses: AddressGuard;
  /** That sources may lie in, by their names. */
  stores: ReadonlyMap<string, ObjectStore>;
}

/** What tells one version of an object from another; a strong ETag, or the time of its last change. */
export interface Resume {
  /** Bytes that are there already. */
  at: number;
  /** Null where a digest will prove the whole, and another server may go on with it. */
  validator: string | null;
  sizeBytes: number;
}

export interface ImageSource extends AsyncDisposable {
  /** Size of the whole, as announced; null where the server does not say. */
  readonly sizeBytes: number | null;
  /** Bytes that it will take on disk, as far as known: holes of a sparse file stay holes. */
  readonly neededBytes: number;
  /** Where in the whole the bytes begin: where `Resume` asked for, or 0. */
  readonly startsAt: number;
  /** With which a later transfer can go on; null where the source cannot. */
  readonly validator: string | null;
  /**
   * The bytes, in pieces of up to CHUNK_BYTES. A piece is only valid until the next one is asked for: its
   * buffer is used again.
   *
   * @throws {AgentError} IMAGE_REFUSED: larger than allowed. UNAVAILABLE: broken off.
   */
  chunks(): AsyncGenerator<Buffer>;
}

/** Refuses a size that no image may have. @param name Names the source in messages. */
export function checkSourceSize(name: string, sizeBytes: number, limits: SourceLimits): void {
  if (sizeBytes === 0) throw new AgentError('IMAGE_REFUSED', `Image from ${name} refused: it is empty`);
  if (sizeBytes <= limits.imageBytes) return;
  throw new AgentError(
    'IMAGE_REFUSED',
    `Image from ${name} refused: it has more than the ${limits.imageBytes} bytes allowed`,
  );
}
