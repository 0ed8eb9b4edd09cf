/**
 * Disk images of other hypervisors, read by ourselves from their headers before any tool touches them.
 *
 * Nothing here trusts the file. What could lead a tool out of it is refused, each with its own sentence: a descriptor
 * that names extents, a parent, a differencing disk. The rest of a header is for qemu-img to read, in its cage.
 * @see block/vmdk.c, block/vpc.c, block/vhdx.h and block/vdi.c of QEMU for layouts and for what QEMU follows
 */
import type { ImageShape, Judgement } from './header.ts';

/** Reads up to `length` bytes of the image from `position`; fewer only where it ends. */
export type ReadAt = (position: number, length: number) => Promise<Buffer>;

/** Formats that are converted to qcow2 when they are imported. */
export type ForeignFormat = 'vmdk' | 'vpc' | 'vhdx' | 'vdi';

type Judged = Judgement<ImageShape>;

const SECTOR_BYTES = 512;
const JUDGES: Readonly<Record<ForeignFormat, (read: ReadAt, sizeBytes: number) => Promise<Judged>>> = {
  vmdk: judgeVmdk,
  vpc: judgeVhd,
  vhdx: judgeVhdx,
  vdi: judgeVdi,
};

/** @param sizeBytes Size of the image, which `read` reads. */
export async function judgeForeign(format: ForeignFormat, read: ReadAt, sizeBytes: number): Promise<Judged> {
  const judged = await JUDGES[format](read, sizeBytes);
  if (!judged.ok) return judged;
  const { virtualSizeBytes } = judged.value;
  return virtualSizeBytes > 0 ? judged : refuse('its virtual size is 0');
}

const VMDK = {
  headerBytes: 79,
  /** Where QEMU reads the descriptor, wherever the header says that it is; and how much of it. */
  descriptorAt: 512,
  descriptorBytes: 20 * SECTOR_BYTES,
  /** A descriptor is a page of text. */
  descriptorBytesMax: 64 * 1024,
  /** A header that is only at the end of the file, as in a stream; distance from there. */
  atEnd: 0xffff_ffff_ffff_ffffn,
  footerFromEnd: 1024,
  types: ['monolithicSparse', 'streamOptimized'],
} as const;

async function judgeVmdk(read: ReadAt, sizeBytes: number): Promise<Judged> {
  const start = await read(0, VMDK.headerBytes);
  if (start.toString('latin1', 0, 21) === '# Disk DescriptorFile') {
    return refuse('it is a VMDK descriptor, whose data lie in other files');
  }
  const header = readVmdkHeader(start);
  if (header === null) return refuse('it has no VMDK header of a sparse disk');
  if (header.capacity === 0n)
    return refuse('its VMDK header has no size, and a descriptor names other files');
  if (header.descriptorAt === 0n) return refuse('it has no descriptor: it is one extent of several');
  const footer =
    header.directoryAt === VMDK.atEnd ? await read(sizeBytes - VMDK.footerFromEnd, SECTOR_BYTES) : start;
  if (readVmdkHeader(footer)?.capacity !== header.capacity)
    return refuse('its VMDK footer is not that of its header');
  const reason = await descriptorReason(read, header);
  return reason === null ? sized(header.capacity * BigInt(SECTOR_BYTES)) : refuse(reason);
}

interface VmdkHeader {
  /** Sectors that a guest sees. */
  capacity: bigint;
  /** In sectors; 0 where there is none. */
  descriptorAt: bigint;
  descriptorSectors: bigint;
  directoryAt: bigint;
}

function readVmdkHeader(bytes: Buffer): VmdkHeader | null {
  if (bytes.length < VMDK.headerBytes || bytes.toString('latin1', 0, 4) !== 'KDMV') return null;
  return {
    capacity: bytes.readBigUInt64LE(12),
    descriptorAt: bytes.readBigUInt64LE(28),
    descriptorSectors: bytes.readBigUInt64LE(36),
    directoryAt: bytes.readBigUInt64LE(56),
  };
}

/** The descriptor where its header says, and where QEMU looks for it: neither may name another file. */
async function descriptorReason(read: ReadAt, header: VmdkHeader): Promise<string | null> {
  const at = header.descriptorAt * BigInt(SECTOR_BYTES);
  const bytes = header.descriptorSectors * BigInt(SECTOR_BYTES);
  if (bytes > BigInt(VMDK.descriptorBytesMax)) return `its descriptor has ${bytes} bytes`;
  if (at > BigInt(Number.MAX_SAFE_INTEGER)) return 'its descriptor lies beyond its end';
  const named = textOf(await read(Number(at), Number(bytes)));
  const seen = textOf(await read(VMDK.descriptorAt, VMDK.descriptorBytes));
  return textReason(named) ?? parentReason(seen);
}

function textReason(text: string): string | null {
  const type = /^\s*createType\s*=\s*"([^"]*)"/im.exec(text)?.[1] ?? 'none';
  if (!VMDK.types.some((allowed) => allowed === type)) {
    return `its VMDK type is ${JSON.stringify(type.slice(0, 40))}; allowed are ${VMDK.types.join(' and ')}`;
  }
  const extents = text.match(/^\s*(?:RW|RDONLY|NOACCESS)\s.*$/gim) ?? [];
  const foreign = extents.find((line) => !/^\s*\S+\s+\d+\s+SPARSE\s/i.test(line));
  if (foreign !== undefined)
    return `its descriptor names a foreign extent, ${JSON.stringify(foreign.slice(0, 80))}`;
  if (extents.length !== 1) return `its descriptor names ${extents.length} extents; it has to be one file`;
  return parentReason(text);
}

function parentReason(text: string): string | null {
  if (/parentFileNameHint/i.test(text)) return 'it names a parent, which it depends on';
  const parent = /^\s*parentCID\s*=\s*([0-9a-f]+)/im.exec(text)?.[1];
  return parent === undefined || /^f{8}$/i.test(parent) ? null : 'it has a parent, which it depends on';
}

const VHD = {
  footerBytes: 512,
  fixed: 2,
  dynamic: 3,
  differencing: 4,
} as const;

/** The footer at the end counts; a dynamic disk begins with a copy of it, which has to be the same. */
async function judgeVhd(read: ReadAt, sizeBytes: number): Promise<Judged> {
  if (sizeBytes < 2 * VHD.footerBytes) return refuse('it is too short for a VHD');
  const footer = await read(sizeBytes - VHD.footerBytes, VHD.footerBytes);
  if (!isVhdFooter(footer)) return refuse('it does not end with a VHD footer: it is cut short, or no VHD');
  const type = footer.readUInt32BE(60);
  if (type === VHD.differencing) return refuse('it is a differencing VHD, whose data lie in a parent');
  if (type !== VHD.fixed && type !== VHD.dynamic)
    return refuse(`its VHD type is ${type}; allowed are 2 and 3`);
  const copy = await read(0, VHD.footerBytes);
  if ((type === VHD.dynamic || isVhdFooter(copy)) && !copy.equals(footer)) {
    return refuse('its VHD header is not the copy of its footer');
  }
  return sized(footer.readBigUInt64BE(48));
}

function isVhdFooter(bytes: Buffer): boolean {
  return bytes.length === VHD.footerBytes && bytes.toString('latin1', 0, 8) === 'conectix';
}

const VHDX = {
  regionsAt: [192 * 1024, 256 * 1024],
  tableBytes: 64 * 1024,
  /** VHDX_REGION_MAX_ENTRIES and VHDX_METADATA_MAX_ENTRIES. */
  entriesMax: 2047,
  entryBytes: 32,
  metadata: guid('8b7ca206-4790-4b9a-b8fe-575f050f886e'),
  fileParameters: guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b'),
  virtualSize: guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8'),
  parentLocator: guid('a8d35f2d-b30b-454d-abf7-d3d84834ab0c'),
  hasParent: 2,
} as const;

/** Both copies of the region table are followed: which one QEMU takes is decided by checksums. */
async function judgeVhdx(read: ReadAt): Promise<Judged> {
  if ((await read(0, 8)).toString('latin1') !== 'vhdxfile') return refuse('it has no VHDX signature');
  const sizes: bigint[] = [];
  for (const at of VHDX.regionsAt) {
    const judged = await judgeVhdxRegions(read, await read(at, VHDX.tableBytes));
    if (!judged.ok) return judged;
    sizes.push(judged.value);
  }
  if (sizes[0] !== sizes[1]) return refuse('its two VHDX region tables differ');
  return sized(sizes[0] as bigint);
}

async function judgeVhdxRegions(read: ReadAt, table: Buffer): Promise<Judgement<bigint>> {
  const entries = vhdxEntries(table, { signature: 'regi', countAt: 8, width: 4, entriesAt: 16 });
  const found = entries?.filter((entry) => entry.subarray(0, 16).equals(VHDX.metadata)) ?? [];
  if (found.length !== 1) return refuse('it has no VHDX region table with one metadata region');
  const at = (found[0] as Buffer).readBigUInt64LE(16);
  if (at > BigInt(Number.MAX_SAFE_INTEGER)) return refuse('its VHDX metadata lie beyond its end');
  return judgeVhdxMetadata(read, Number(at));
}

async function judgeVhdxMetadata(read: ReadAt, at: number): Promise<Judgement<bigint>> {
  const table = await read(at, VHDX.tableBytes);
  const entries = vhdxEntries(table, { signature: 'metadata', countAt: 10, width: 2, entriesAt: 32 });
  if (entries === null) return refuse('it has no VHDX metadata table');
  const item = (id: Buffer) => entries.filter((entry) => entry.subarray(0, 16).equals(id));
  const parameters = item(VHDX.fileParameters);
  const sizes = item(VHDX.virtualSize);
  if (parameters.length !== 1 || sizes.length !== 1) return refuse('its VHDX metadata are not complete');
  const flags = await read(at + (parameters[0] as Buffer).readUInt32LE(16), 8);
  const size = await read(at + (sizes[0] as Buffer).readUInt32LE(16), 8);
  if (flags.length < 8 || size.length < 8) return refuse('its VHDX metadata are cut short');
  if ((flags.readUInt32LE(4) & VHDX.hasParent) !== 0 || item(VHDX.parentLocator).length > 0) {
    return refuse('it is a differencing VHDX, whose data lie in a parent');
  }
  return { ok: true, value: size.readBigUInt64LE(0) };
}

function vhdxEntries(
  table: Buffer,
  form: { signature: string; countAt: number; width: 2 | 4; entriesAt: number },
): Buffer[] | null {
  if (table.length < VHDX.tableBytes) return null;
  if (table.toString('latin1', 0, form.signature.length) !== form.signature) return null;
  const count = table.readUIntLE(form.countAt, form.width);
  if (count > VHDX.entriesMax) return null;
  const at = (index: number) => form.entriesAt + index * VHDX.entryBytes;
  return Array.from({ length: count }, (_, index) => table.subarray(at(index), at(index + 1)));
}

const VDI = {
  headerBytes: 512,
  signature: 0xbeda107f,
  dynamic: 1,
  fixed: 2,
} as const;

async function judgeVdi(read: ReadAt): Promise<Judged> {
  const header = await read(0, VDI.headerBytes);
  if (header.length < VDI.headerBytes || header.readUInt32LE(64) !== VDI.signature) {
    return refuse('it has no VDI signature');
  }
  const type = header.readUInt32LE(76);
  if (type !== VDI.dynamic && type !== VDI.fixed) {
    return refuse(`its VDI type is ${type}, which needs a parent; allowed are 1 and 2`);
  }
  if (header.subarray(424, 456).some((byte) => byte !== 0))
    return refuse('it names a parent, which it depends on');
  return sized(header.readBigUInt64LE(368));
}

function sized(bytes: bigint): Judged {
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) return refuse(`its virtual size is ${bytes} bytes`);
  return { ok: true, value: { virtualSizeBytes: Number(bytes), clusterBytes: SECTOR_BYTES } };
}

/** The bytes of a GUID as Microsoft lays them out: the first three groups are little-endian. */
function guid(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

/** Up to the first NUL, as C reads it, and beyond: a line may hide behind one. */
function textOf(bytes: Buffer): string {
  return bytes.toString('latin1').replaceAll('\0', '\n');
}

function refuse(reason: string): { ok: false; reason: string } {
  return { ok: false, reason };
}
