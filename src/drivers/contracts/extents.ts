/**
 * A disk's content as it moves between a hypervisor, a backup repository and a file: extents in ascending order.
 *
 * This is the seam between how a disk is read (NBD with dirty bitmaps, a stopped disk's file) or written, and how
 * backups are kept.
 */

/** Bytes at `offset`, valid until the next extent is asked for; what no extent covers is as it was, in a full backup zero. */
export type DiskExtent =
  | { type: 'data'; offset: number; data: Uint8Array }
  | { type: 'zero'; offset: number; length: number };

/** Where a disk is written to; it is all zero at first. */
export interface DiskSink {
  write(offset: number, data: Uint8Array): Promise<void>;
  zero(offset: number, length: number): Promise<void>;
}
