/**
 * The qcow2 header, read by ourselves from the bytes before any tool touches them: pure.
 *
 * Nothing here trusts the file; each refusal has its own sentence. All numbers are big-endian.
 * @see docs/interop/qcow2.txt of QEMU, and block/qcow2.h for the limits that QEMU itself sets
 */

/** Bytes of the file's beginning that are looked at; extensions that reach beyond are refused. */
export const HEADER_BYTES = 64 * 1024;

/** "QFI\xfb" */
const MAGIC = 0x514649fb;
/** Length of the fixed part: version 2, and version 3 up to header_length. */
const V2_BYTES = 72;
const V3_BYTES = 104;
/** QCOW_MIN_CLUSTER_BITS and QCOW_MAX_CLUSTER_BITS: clusters of 512 bytes to 2 MiB. */
const CLUSTER_BITS_MIN = 9;
const CLUSTER_BITS_MAX = 21;
/** QCOW_MAX_L1_SIZE and QCOW_MAX_REFTABLE_SIZE, bytes. */
const L1_BYTES_MAX = 32 * 1024 * 1024;
const REFTABLE_BYTES_MAX = 8 * 1024 * 1024;
/** BDRV_SECTOR_SIZE. */
const SECTOR_BYTES = 512;
/** Most name bytes of a backing file. @see PATH_MAX in block/qcow2.c, "Backing file name too long" */
const BACKING_NAME_MAX = 1023;

/** Incompatible feature bits; the ones not named here are refused as unknown. */
const FEATURES = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalDataFile: 1n << 2n,
  compressionType: 1n << 3n,
  extendedL2: 1n << 4n,
} as const;
const KNOWN_FEATURES = Object.values(FEATURES).reduce((all, bit) => all | bit, 0n);

/** Header extensions that point out of the file, or lock it. */
const EXTENSION_END = 0;
const EXTENSION_BITMAPS = 0x23852875;
const EXTENSION_LUKS = 0x0537be77;
const EXTENSION_DATA_FILE = 0x44415441;
/** Its data: two numbers of 64 bits. */
const LUKS_EXTENSION_BYTES = 16;
const REFUSED_EXTENSIONS: ReadonlyMap<number, string> = new Map([
  [EXTENSION_DATA_FILE, 'it names an external data file'],
  [0xe2792aca, 'it names the format of a backing file'],
  [EXTENSION_LUKS, 'it is encrypted'],
]);

/** Formats that QEMU recognises by their first bytes where it is left to probe. @see *_probe in block/ */
const PROBED_MAGICS: readonly { name: string; bytes: Buffer; at: number }[] = [
  { name: 'qcow or qcow2', bytes: Buffer.from('QFI\xfb', 'latin1'), at: 0 },
  { name: 'QED', bytes: Buffer.from('QED\0', 'latin1'), at: 0 },
  { name: 'VMDK', bytes: Buffer.from('KDMV'), at: 0 },
  { name: 'VMDK', bytes: Buffer.from('COWD'), at: 0 },
  { name: 'VMDK descriptor', bytes: Buffer.from('# Disk DescriptorFile'), at: 0 },
  { name: 'VHDX', bytes: Buffer.from('vhdxfile'), at: 0 },
  { name: 'VHD', bytes: Buffer.from('conectix'), at: 0 },
  { name: 'Parallels', bytes: Buffer.from('WithoutFreeSpace'), at: 0 },
  { name: 'Parallels', bytes: Buffer.from('WithouFreSpacExt'), at: 0 },
  { name: 'LUKS', bytes: Buffer.from('LUKS\xba\xbe', 'latin1'), at: 0 },
  { name: 'VDI', bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]), at: 64 },
];

export interface ImageShape {
  virtualSizeBytes: number;
  /** Unit in which the file is laid out, bytes; of a raw one, the sector. */
  clusterBytes: number;
}

export interface Qcow2Header extends ImageShape {
  version: 2 | 3;
  /** It has persistent dirty bitmaps, which mean nothing without the backups that made them. */
  hasBitmaps: boolean;
  /** Its data are encrypted, by LUKS or by an older way. */
  encrypted: boolean;
  /** Where in the file its LUKS header is, with the keys that are locked in it; null where there is none. */
  keyArea: { offset: number; length: number } | null;
  /** Null where it stands alone. */
  backingFile: string | null;
  /** Whether its data are in a file that it names. */
  hasDataFile: boolean;
}

/** A whole header, or one sentence of what is wrong with it (no full stop, to follow "refused: "). */
export type Judgement<T> = { ok: true; value: T } | { ok: false; reason: string };

/** Reads what every qcow2 file has, whether ours or not. `start` is the beginning of the file. */
export function readQcow2Header(start: Buffer): Judgement<Qcow2Header> {
  if (start.length < 4 || start.readUInt32BE(0) !== MAGIC) return refuse('it has no qcow2 magic');
  if (start.length < V2_BYTES) return refuse('it ends within its header');
  const version = start.readUInt32BE(4);
  if (version !== 2 && version !== 3) return refuse(`it is qcow2 version ${version}; allowed are 2 and 3`);
  if (version === 3 && start.length < V3_BYTES) return refuse('it ends within its header');
  const clusterBits = start.readUInt32BE(20);
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    return refuse(
      `its cluster_bits are ${clusterBits}; allowed are ${CLUSTER_BITS_MIN} to ${CLUSTER_BITS_MAX}`,
    );
  }
  const backing = readBackingFile(start);
  if (!backing.ok) return backing;
  const virtualSize = start.readBigUInt64BE(24);
  if (virtualSize > BigInt(Number.MAX_SAFE_INTEGER))
    return refuse(`its virtual size is ${virtualSize} bytes`);
  const extensions = extensionsOf(start, version === 2 ? V2_BYTES : start.readUInt32BE(100));
  return {
    ok: true,
    value: {
      version,
      virtualSizeBytes: Number(virtualSize),
      clusterBytes: 2 ** clusterBits,
      backingFile: backing.value,
      hasDataFile: hasDataFile(start, version) || extensions.has(EXTENSION_DATA_FILE),
      hasBitmaps: extensions.has(EXTENSION_BITMAPS),
      encrypted: start.readUInt32BE(32) !== 0 || extensions.has(EXTENSION_LUKS),
      keyArea: keyAreaOf(start, extensions.get(EXTENSION_LUKS)),
    },
  };
}

/**
 * Judges a qcow2 file that comes from outside: it has to stand alone, be whole, and be plain.
 *
 * @param fileBytes Size of the whole file, bytes.
 * @param virtualBytesMax Largest virtual size allowed, bytes.
 */
export function judgeQcow2(
  start: Buffer,
  { fileBytes, virtualBytesMax }: { fileBytes: number; virtualBytesMax: number },
): Judgement<Qcow2Header> {
  const header = readQcow2Header(start);
  if (!header.ok) return header;
  const reason =
    outwardReason(start, header.value) ??
    sizeReason(header.value, virtualBytesMax) ??
    tableReason(start, header.value, fileBytes);
  return reason === null ? header : refuse(reason);
}

/** Judges the beginning of a file named raw: one that a probing tool would take for another format is refused. */
export function judgeRaw(start: Buffer, fileBytes: number): Judgement<ImageShape> {
  const probed = PROBED_MAGICS.find(({ bytes, at }) => start.subarray(at, at + bytes.length).equals(bytes));
  if (probed !== undefined) return refuse(`it is named raw and begins like ${probed.name}`);
  if (fileBytes % SECTOR_BYTES !== 0) {
    return refuse(`its ${fileBytes} bytes are not whole sectors of ${SECTOR_BYTES}`);
  }
  return { ok: true, value: { virtualSizeBytes: fileBytes, clusterBytes: SECTOR_BYTES } };
}

function hasDataFile(start: Buffer, version: 2 | 3): boolean {
  return version === 3 && (start.readBigUInt64BE(72) & FEATURES.externalDataFile) !== 0n;
}

/** Reasons to refuse that lie in what the header points to or asks for. */
function outwardReason(start: Buffer, header: Qcow2Header): string | null {
  if (start.readBigUInt64BE(8) !== 0n) {
    return `it has a backing file, ${JSON.stringify(header.backingFile)}; an image stands alone`;
  }
  if (start.readUInt32BE(16) !== 0) return 'its backing file has a length and no place';
  if (start.readUInt32BE(32) !== 0) return 'it is encrypted';
  if (start.readUInt32BE(60) !== 0) return `it holds ${start.readUInt32BE(60)} internal snapshots`;
  if (header.version === 2) return extensionReason(start, V2_BYTES);
  return featureReason(start) ?? extensionReason(start, start.readUInt32BE(100));
}

function featureReason(start: Buffer): string | null {
  const features = start.readBigUInt64BE(72);
  if (features & FEATURES.externalDataFile) return 'it keeps its data in an external file';
  if (features & FEATURES.corrupt) return 'it is marked corrupt';
  if (features & FEATURES.dirty) return 'it is marked dirty: it was not closed cleanly';
  if (features & ~KNOWN_FEATURES) return `it needs unknown features, bits 0x${features.toString(16)}`;
  const headerBytes = start.readUInt32BE(100);
  if (headerBytes < V3_BYTES || headerBytes % 8 !== 0) return `its header_length is ${headerBytes}`;
  const refcountOrder = start.readUInt32BE(96);
  return refcountOrder > 6 ? `its refcount_order is ${refcountOrder}; allowed are 0 to 6` : null;
}

function extensionReason(start: Buffer, firstAt: number): string | null {
  const types = extensionsOf(start, firstAt);
  for (const type of types.keys()) {
    const refused = REFUSED_EXTENSIONS.get(type);
    if (refused !== undefined) return refused;
  }
  return types.has(EXTENSION_END) ? null : `its header extensions do not end within ${HEADER_BYTES} bytes`;
}

/** Where the data of each of the header's extensions are, by its type, with EXTENSION_END where they end. */
function extensionsOf(start: Buffer, firstAt: number): ReadonlyMap<number, number> {
  const types = new Map<number, number>();
  for (let at = firstAt; at + 8 <= start.length && !types.has(EXTENSION_END); ) {
    types.set(start.readUInt32BE(at), at + 8);
    at += 8 + 8 * Math.ceil(start.readUInt32BE(at + 4) / 8);
  }
  return types;
}

/** Null where it can't be told. */
function keyAreaOf(start: Buffer, at: number | undefined): Qcow2Header['keyArea'] {
  if (at === undefined || at + LUKS_EXTENSION_BYTES > start.length) return null;
  const [offset, length] = [Number(start.readBigUInt64BE(at)), Number(start.readBigUInt64BE(at + 8))];
  return Number.isSafeInteger(offset + length) ? { offset, length } : null;
}

function sizeReason({ virtualSizeBytes }: Qcow2Header, virtualBytesMax: number): string | null {
  if (virtualSizeBytes === 0) return 'its virtual size is 0';
  if (virtualSizeBytes % SECTOR_BYTES !== 0)
    return `its virtual size, ${virtualSizeBytes}, is not whole sectors`;
  if (virtualSizeBytes <= virtualBytesMax) return null;
  return `its virtual size is ${virtualSizeBytes} bytes; at most ${virtualBytesMax} are allowed`;
}

/** Both tables have to lie within the file. @returns Null where they do. */
export function tableReason(start: Buffer, { clusterBytes }: Qcow2Header, fileBytes: number): string | null {
  const l1 = { at: start.readBigUInt64BE(40), bytes: start.readUInt32BE(36) * 8 };
  if (l1.bytes > L1_BYTES_MAX)
    return `its L1 table has ${l1.bytes} bytes; at most ${L1_BYTES_MAX} are allowed`;
  const refcounts = { at: start.readBigUInt64BE(48), bytes: start.readUInt32BE(56) * clusterBytes };
  if (refcounts.bytes === 0) return 'it has no refcount table';
  if (refcounts.bytes > REFTABLE_BYTES_MAX) {
    return `its refcount table has ${refcounts.bytes} bytes; at most ${REFTABLE_BYTES_MAX} are allowed`;
  }
  return placeReason('L1', l1, fileBytes) ?? placeReason('refcount', refcounts, fileBytes);
}

function placeReason(name: string, table: { at: bigint; bytes: number }, fileBytes: number): string | null {
  if (table.at + BigInt(table.bytes) <= BigInt(fileBytes)) return null;
  return `its ${name} table ends beyond its ${fileBytes} bytes: the file is cut short`;
}

function readBackingFile(start: Buffer): Judgement<string | null> {
  const at = start.readBigUInt64BE(8);
  const length = start.readUInt32BE(16);
  if (at === 0n) return { ok: true, value: null };
  if (length > BACKING_NAME_MAX) return refuse(`the name of its backing file has ${length} bytes`);
  if (at + BigInt(length) > BigInt(start.length))
    return refuse('the name of its backing file lies beyond its header');
  return { ok: true, value: start.toString('utf8', Number(at), Number(at) + length) };
}

function refuse(reason: string): { ok: false; reason: string } {
  return { ok: false, reason };
}
