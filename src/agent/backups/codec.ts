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
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync, zstdDecompress } from 'node:zlib';
import { AgentError } from '../../model/errors.ts';
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
/** Made in pieces of its default of 16 KiB, a frame takes five times as long. */
const AT_ONCE = { chunkSize: PLAIN_BYTES_LIMIT + HEAD_BYTES };
/** Node's least. */
const CHUNK_MIN = 64;
/** Places that are tried first of what is large, and what has to be left of them for it to be worth packing. */
const SAMPLES = 4;
const SAMPLE_BYTES = 16 * 1024;
const WORTH_RATIO = 0.97;
/** Told its size, zstd makes small tables, in a third of the time; the margin is more than ZSTD_compressBound() adds. */
const SAMPLED = { pledgedSrcSize: SAMPLES * SAMPLE_BYTES, chunkSize: SAMPLES * SAMPLE_BYTES + 1024 };

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

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
    const packed = isWorthPacking(plain) ? await compress(plain, { params: LEVEL, ...AT_ONCE }) : plain;
    const compressed = packed.length < plain.length;
    const head = Buffer.alloc(HEAD_BYTES);
    MAGIC.copy(head);
    head[4] = VERSION;
    head[5] = (compressed ? COMPRESSED : 0) | (this.#keys === null ? 0 : ENCRYPTED);
    head.writeUInt32BE(plain.length, 8);
    head.write(id, 12, 'hex');
    const content = compressed ? packed : plain;
    return [head, ...(this.#keys === null ? [content] : this.#encrypt(content, head, name))];
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
    if (plain.length !== length || this.idOf(plain) !== head.subarray(12).toString('hex')) {
      throw damaged(name, 'its bytes are not those that were written');
    }
    return plain;
  }

  #encrypt(content: Uint8Array, head: Buffer, name: string): Buffer[] {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#keys!.cipher, nonce);
    cipher.setAAD(Buffer.concat([head, Buffer.from(name)]));
    return [nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()];
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
      const plain = decipher.update(content.subarray(NONCE_BYTES, -TAG_BYTES));
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
  const sample = Buffer.concat(places.map((at) => plain.subarray(at, at + SAMPLE_BYTES)));
  const packed = zstdCompressSync(sample, { params: LEVEL, ...SAMPLED });
  return packed.length < WORTH_RATIO * sample.length;
}

async function unpack(content: Buffer, length: number, name: string): Promise<Buffer> {
  try {
    return await decompress(content, {
      chunkSize: Math.max(length, CHUNK_MIN),
      maxOutputLength: Math.max(length, 1),
    });
  } catch {
    throw damaged(name, 'it does not unpack');
  }
}

function derive(key: Uint8Array, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), `berth backup ${purpose}`, KEY_BYTES));
}

export function damaged(name: string, why: string): AgentError {
  return new AgentError('DATA_DAMAGED', `Cannot read ${name}: ${why}`);
}
