/**
 * How bytes lie in a repository: compressed by zstd, encrypted where there is a key, and never believed unless they are what was
 * written under that name.
 *
 *   0   4  'BRTB'
 *   4   1  version 1
 *   5   1  1: compressed, 2: encrypted (bits)
 *   6   2  zero
 *   8   4  plain length
 *  12  32  identity of the plain bytes: SHA-256, or HMAC-SHA-256 by the key
 *  44      [12 nonce] content [16 tag]: AES-256-GCM over the content, with head and name as additional data
 *
 * A nonce is random: 2^32 pieces under one key keep the odds of a repetition below 2^-32. The length is checked before
 * anything is unpacked, so that a hostile repository costs no more memory than an honest one.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { constants, createZstdCompress, createZstdDecompress, zstdCompressSync } from 'node:zlib';
import { AgentError } from '../../model/errors.ts';
import { freeWhole } from '../../model/free.ts';
import { MIB } from '../../model/units.ts';

const MAGIC = Buffer.from('BRTB');
const VERSION = 1;
const COMPRESSED = 1;
const ENCRYPTED = 2;
const HEAD_BYTES = 44;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
export const KEY_BYTES = 32;
/** Largest plain bytes of one object: a chunk has 4 MiB, a manifest much less. */
export const PLAIN_BYTES_LIMIT = 8 * MIB;
/** Largest object: what does not compress is kept as it is. */
export const ENCODED_BYTES_LIMIT = PLAIN_BYTES_LIMIT + HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/**
 * Half the time of zstd's own default of 3, for a tenth more bytes.
 * @see docs/adr/0025-backups-at-the-rate-of-the-disk.md
 */
const LEVEL = { [constants.ZSTD_c_compressionLevel]: 1 };
/**
 * What zlib is given beyond the plain bytes, so that it makes a frame at once: in pieces of its default of 16 KiB that takes five
 * times as long, and what it has filled to the brim it gives a second buffer. More than ZSTD_compressBound() adds.
 */
const MARGIN_BYTES = 64 * 1024;
/** What goes through the cipher at once: Node makes a second copy of what comes out of it, which is cut to its length. */
const CIPHER_BYTES = MIB;
/** Places that are tried first of what is large, and what has to be left of them for it to be worth packing. */
const SAMPLES = 4;
const SAMPLE_BYTES = 16 * 1024;
/** Where they are put together: it is done before anybody else comes. */
const SAMPLE = Buffer.allocUnsafeSlow(SAMPLES * SAMPLE_BYTES);
const WORTH_RATIO = 0.97;
/** Told its size, zstd makes small tables, in a third of the time; the margin is more than ZSTD_compressBound() adds. */
const SAMPLED = { pledgedSrcSize: SAMPLES * SAMPLE_BYTES, chunkSize: SAMPLES * SAMPLE_BYTES + 1024 };

export class Codec {
  readonly #keys: { cipher: Buffer; identity: Buffer } | null;

  /** @param key KEY_BYTES that nobody else has; null for a repository in clear. */
  constructor(key: Uint8Array | null) {
    if (key !== null && key.length !== KEY_BYTES) {
      throw new AgentError('INVALID_ARGUMENT', `A key of backups has ${KEY_BYTES} bytes`);
    }
    this.#keys = key === null ? null : { cipher: derive(key, 'cipher'), identity: derive(key, 'identity') };
  }

  /** The identity of plain bytes: equal for equal ones, and telling nothing of them without the key. */
  idOf(plain: Uint8Array): string {
    const hash = this.#keys === null ? createHash('sha256') : createHmac('sha256', this.#keys.identity);
    return hash.update(plain).digest('hex');
  }

  /**
   * @param name What it is kept under; only the same name reads it again.
   * @param id Its identity, where it is known already.
   */
  async encode(plain: Uint8Array, name: string, id: string = this.idOf(plain)): Promise<Buffer> {
    return Buffer.concat(await this.frame(plain, name, id));
  }

  /** As `encode`, in pieces: what is not packed is the plain bytes themselves, and not a copy of them. */
  async frame(plain: Uint8Array, name: string, id: string): Promise<Uint8Array[]> {
    if (plain.length > PLAIN_BYTES_LIMIT) {
      throw new AgentError('LIMIT_REACHED', `${name} has more than ${PLAIN_BYTES_LIMIT} bytes`);
    }
    const packed = isWorthPacking(plain) ? await pack(plain) : [];
    const compressed = packed.length > 0 && lengthOf(packed) < plain.length;
    const head = Buffer.alloc(HEAD_BYTES);
    MAGIC.copy(head);
    head[4] = VERSION;
    head[5] = (compressed ? COMPRESSED : 0) | (this.#keys === null ? 0 : ENCRYPTED);
    head.writeUInt32BE(plain.length, 8);
    head.write(id, 12, 'hex');
    if (!compressed) freeAll(packed);
    const content = compressed ? packed : [plain];
    if (this.#keys === null) return [head, ...content];
    const encrypted = this.#encrypt(content, head, name);
    freeAll(packed);
    return [head, ...encrypted];
  }

  /** @throws {AgentError} DATA_DAMAGED; PERMISSION_DENIED: it needs a key, or another one. */
  async decode(encoded: Uint8Array, name: string): Promise<Buffer> {
    const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
    const head = bytes.subarray(0, HEAD_BYTES);
    if (head.length < HEAD_BYTES || !head.subarray(0, 4).equals(MAGIC))
      throw damaged(name, 'it is none of ours');
    if (head[4] !== VERSION) throw new AgentError('UNSUPPORTED', `${name} is of a later version of Berth`);
    const flags = head[5] ?? 0;
    const length = head.readUInt32BE(8);
    if (length > PLAIN_BYTES_LIMIT || flags > (COMPRESSED | ENCRYPTED))
      throw damaged(name, 'its head is absurd');
    const content = this.#decrypt(bytes.subarray(HEAD_BYTES), head, name, (flags & ENCRYPTED) !== 0);
    const plain = (flags & COMPRESSED) === 0 ? content : await unpack(content, length, name);
    if (plain !== content && content.buffer !== bytes.buffer) freeWhole(content);
    if (plain.length !== length || this.idOf(plain) !== head.subarray(12).toString('hex')) {
      throw damaged(name, 'its bytes are not those that were written');
    }
    return plain;
  }

  #encrypt(content: readonly Uint8Array[], head: Buffer, name: string): Buffer[] {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#keys!.cipher, nonce);
    cipher.setAAD(Buffer.concat([head, Buffer.from(name)]));
    const pieces = content.flatMap(piecesOf).map((piece) => cipher.update(piece));
    return [nonce, ...pieces, cipher.final(), cipher.getAuthTag()];
  }

  #decrypt(content: Buffer, head: Buffer, name: string, encrypted: boolean): Buffer {
    if (encrypted !== (this.#keys !== null)) {
      // A repository with a key takes nothing in clear: anybody could have put it there.
      if (!encrypted) throw damaged(name, 'it is not encrypted');
      throw new AgentError('PERMISSION_DENIED', `Cannot read ${name}: it is encrypted, and no key is given`);
    }
    if (this.#keys === null) return content;
    if (content.length < NONCE_BYTES + TAG_BYTES) throw damaged(name, 'it is cut off');
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#keys.cipher, content.subarray(0, NONCE_BYTES));
      decipher.setAAD(Buffer.concat([head, Buffer.from(name)]));
      decipher.setAuthTag(content.subarray(-TAG_BYTES));
      const plain = Buffer.allocUnsafeSlow(content.length - NONCE_BYTES - TAG_BYTES);
      let filled = 0;
      for (const piece of piecesOf(content.subarray(NONCE_BYTES, -TAG_BYTES))) {
        const opened = decipher.update(piece);
        plain.set(opened, filled);
        filled += opened.length;
        freeWhole(opened);
      }
      decipher.final();
      return plain;
    } catch {
      throw damaged(name, 'it was written by another key, or has changed');
    }
  }
}

/** What is packed or encrypted already, as films and archives are, costs the time of a few samples. */
function isWorthPacking(plain: Uint8Array): boolean {
  if (plain.length < 2 * SAMPLES * SAMPLE_BYTES) return true;
  const apart = Math.floor((plain.length - SAMPLE_BYTES) / (SAMPLES - 1));
  const places = Array.from({ length: SAMPLES }, (_, place) => place * apart);
  for (const [place, at] of places.entries())
    SAMPLE.set(plain.subarray(at, at + SAMPLE_BYTES), place * SAMPLE_BYTES);
  const packed = zstdCompressSync(SAMPLE, { params: LEVEL, ...SAMPLED });
  const { length } = packed;
  freeWhole(packed);
  return length < WORTH_RATIO * SAMPLE.length;
}

function piecesOf(bytes: Uint8Array): Uint8Array[] {
  const count = Math.ceil(bytes.length / CIPHER_BYTES);
  return Array.from({ length: count }, (_, place) =>
    bytes.subarray(place * CIPHER_BYTES, (place + 1) * CIPHER_BYTES),
  );
}

/** Pieces of one buffer. What zlib puts together by itself it copies, and leaves the buffer to the collector. */
async function pack(plain: Uint8Array): Promise<Uint8Array[]> {
  const zstd = createZstdCompress({ params: LEVEL, chunkSize: plain.length + MARGIN_BYTES });
  zstd.end(plain);
  const pieces: Uint8Array[] = [];
  for await (const piece of zstd) pieces.push(piece);
  return pieces;
}

/** @param length What its head says; more is not made. */
async function unpack(content: Buffer, length: number, name: string): Promise<Buffer> {
  const zstd = createZstdDecompress({ chunkSize: length + MARGIN_BYTES });
  zstd.end(content);
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of zstd) {
      pieces.push(piece);
      if (lengthOf(pieces) > length) throw new Error('it has more than it says');
    }
    return Buffer.concat(pieces);
  } catch {
    throw damaged(name, 'it does not unpack');
  } finally {
    freeAll(pieces);
  }
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

function freeAll(pieces: readonly Uint8Array[]): void {
  for (const piece of pieces) freeWhole(piece);
}

function derive(key: Uint8Array, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), `berth backup ${purpose}`, KEY_BYTES));
}

export function damaged(name: string, why: string): AgentError {
  return new AgentError('DATA_DAMAGED', `Cannot read ${name}: ${why}`);
}
