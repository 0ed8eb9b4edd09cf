/**
 * A storage volume: libvirt's functions on it, those generated (src/api/storage-volume.gen.ts), and a way to read it by
 * several streams at once.
 */
import type { CallOptions } from './api/caller.ts';
import { StorageVolumeMethods } from './api/storage-volume.gen.ts';
import { virStorageVolInfoFlags } from './constants.gen.ts';
import { checkedParts, readParts, type TakePart } from './volume-parts.ts';

/** Which part of a volume is read, and how. The limits are those of each call, not of the whole. */
export interface ConsumeOptions extends CallOptions {
  /** Bytes from the begin of the volume. @default 0 */
  offset?: number | undefined;
  /** Bytes; 0 is all up to the end. @default 0 */
  length?: number | undefined;
  /** virStorageVolDownloadFlags; with SPARSE_STREAM holes are told, and not sent. @default 0 */
  flags?: number | undefined;
  /** Streams that are open at once, each on a socket of its own, 1 to 16. @default 8 */
  streams?: number | undefined;
}

export class StorageVolume extends StorageVolumeMethods {
  /**
   * Reads a volume by several streams at once, with a function that keeps nothing. The fastest way to read a volume: the
   * daemon waits for each reader after each quarter of a mebibyte, and with several it has always one to go on with.
   *
   *   await volume.consume((part) => 'data' in part && writeSync(file, part.data, 0, part.data.length, part.offset));
   *
   * @param take Is given data, and holes with the flag SPARSE_STREAM, each with the offset in the volume where it begins.
   *   Parts of one stream come in order, those of several do not. Memory is lent as by `stream.consume`: until the function
   *   returns, or its promise is settled; meanwhile it is called for other streams. What it throws ends all streams.
   * @returns When all has come, and the daemon has confirmed the end of each stream.
   * @throws {LibvirtUsageError} `take` is no function, or the options are no such. Nothing is sent.
   * @throws {LibvirtTransportError} As reading a stream does; truncated: the volume has become shorter; aborted.
   * @throws What `take` throws.
   */
  async consume(take: TakePart, options: ConsumeOptions = {}): Promise<void> {
    const { offset, length, flags, streams, ...limits } = checkedParts(take, options);
    const end = length > 0 ? offset + length : await this.#bytes(limits);
    const open = (from: number, bytes: number) => this.download(from, bytes, flags, limits);
    await readParts({ from: offset, end, streams, signal: limits.signal, open, take });
  }

  /** The bytes that a download of all would give: those of the file or device, whatever its format. */
  async #bytes(limits: CallOptions): Promise<number> {
    const flags = virStorageVolInfoFlags.VIR_STORAGE_VOL_GET_PHYSICAL;
    const { allocation } = await this.getInfoFlags(flags, limits);
    return Number(allocation);
  }
}
