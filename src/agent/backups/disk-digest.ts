/**
 * A digest of a disk that does not depend on the order in which its bytes come: for comparing what was written, chunk by
 * chunk, with what is read back from first to last. Pure.
 *
 * Each block that is not all zeros adds the SHA-256 of its place and its bytes, as a number modulo 2^256. What does not
 * fill its last block is followed by zeros.
 */
import { createHash } from 'node:crypto';
import type { DiskExtent, DiskSink } from '../../drivers/contracts/extents.ts';
import { AgentError } from '../../model/errors.ts';

/** All that writes disks does so in multiples of it: QEMU's clusters have 64 KiB, and disks whole GiB. */
const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(BLOCK_BYTES);
const MODULUS = 1n << 256n;
const PLACE_BYTES = 8;

export class DiskDigest {
  #sum = 0n;

  /** @throws {AgentError} UNSUPPORTED: it does not begin with a block */
  add(offset: number, data: Uint8Array): void {
    if (offset % BLOCK_BYTES !== 0)
      throw new AgentError('UNSUPPORTED', `Cannot compare ${data.length} bytes at ${offset}: amid a block`);
    for (let at = 0; at < data.length; at += BLOCK_BYTES)
      this.#addBlock(offset + at, data.subarray(at, at + BLOCK_BYTES));
  }

  get hex(): string {
    return this.#sum.toString(16).padStart(64, '0');
  }

  #addBlock(offset: number, bytes: Uint8Array): void {
    const block = bytes.length === BLOCK_BYTES ? bytes : Buffer.concat([bytes, ZEROS], BLOCK_BYTES);
    if (ZEROS.equals(block)) return;
    const place = Buffer.alloc(PLACE_BYTES);
    place.writeBigUInt64BE(BigInt(offset));
    const digest = createHash('sha256').update(place).update(block).digest('hex');
    this.#sum = (this.#sum + BigInt(`0x${digest}`)) % MODULUS;
  }
}

/** Adds all that goes to a sink, each place of which is written once. */
export function digesting(sink: DiskSink, digest: DiskDigest): DiskSink {
  return {
    async write(offset, data) {
      digest.add(offset, data);
      await sink.write(offset, data);
    },
    zero: (offset, length) => sink.zero(offset, length),
  };
}

export async function digestOf(extents: AsyncIterable<DiskExtent>): Promise<string> {
  const digest = new DiskDigest();
  for await (const extent of extents) if (extent.type === 'data') digest.add(extent.offset, extent.data);
  return digest.hex;
}
