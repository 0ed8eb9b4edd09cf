/** What the bytes of a guest are read in, and known to be zeros by. */
import { MIB } from '../../model/units.ts';

/** Bytes read at once, of which each block that is not all zeros is told, or overwritten. */
export const BLOCK_BYTES = MIB;
/** A block of them; never written to. */
export const ZEROS: Buffer = Buffer.alloc(BLOCK_BYTES);
