/**
 * Memory that a socket reads into.
 *
 * Theory of operation: left to itself, Node.js makes 64 KiB for each read, and copies what came when it was less. Here a
 * block takes what many reads bring, one after the other, so that what is read may be kept, and keeps its block.
 *
 *   block  │ 1st read │ 2nd │ 3rd read │ room for the next │
 *
 * A socket that brings little has small blocks; one that fills them gets large ones. V8 cannot see when a block is free:
 * it collects all garbage for every few dozen MiB of them. Whoever keeps nothing of what came says so (`reuse`), and then
 * one block is enough for any number of bytes.
 */
import type { OnReadOpts, Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** A socket of calls and events gets blocks of this many bytes: some hundred replies. */
const SMALL_BLOCK_BYTES = 65_536;

/**
 * One whose reads fill all the room gets blocks of this many. libvirtd's packets are a quarter of a mebibyte, and a unix
 * socket holds 208 KiB (`net.core.wmem_default`), so a read brings most of a packet.
 */
const LARGE_BLOCK_BYTES = 524_288;

/** A read is given at least this share of a block; with less room left, the rest of it is given up. */
const ROOM_SHARE = 1 / 8;

export class ReadBlocks {
  /** Bytes of the next block. */
  #blockBytes = SMALL_BLOCK_BYTES;
  #block = Buffer.alloc(0);
  /** Where the room for the next read starts. */
  #roomAt = 0;
  /** Bytes at the start of the block that may be in use. */
  #usedBytes = 0;

  /** Where the next read goes to. */
  room(): Buffer {
    const leftBytes = this.#block.length - this.#usedBytes;
    if (leftBytes < this.#blockBytes * ROOM_SHARE || this.#isFreeAndSmall) this.#startBlock();
    this.#roomAt = this.#usedBytes;
    return this.#block.subarray(this.#roomAt);
  }

  /** Tells how much of the room a read has used. */
  used(bytes: number): void {
    this.#usedBytes = this.#roomAt + bytes;
    if (this.#usedBytes === this.#block.length) this.#blockBytes = LARGE_BLOCK_BYTES;
  }

  /** Nobody keeps anything of what has been read. The room that was given last stays as it is. */
  reuse(): void {
    this.#usedBytes = 0;
  }

  get #isFreeAndSmall(): boolean {
    return this.#usedBytes === 0 && this.#block.length < this.#blockBytes;
  }

  #startBlock(): void {
    this.#block = Buffer.allocUnsafeSlow(this.#blockBytes);
    this.#usedBytes = 0;
  }
}

const blocksOf = new WeakMap<Duplex, ReadBlocks>();

/**
 * Makes a socket that reads into blocks of its own. It is read as any other.
 *
 * @param connect Passes `onread` on to net.createConnection.
 */
export function readingIntoBlocks(connect: (onread: OnReadOpts) => Socket): Socket {
  const blocks = new ReadBlocks();
  const socket = connect({
    buffer: () => blocks.room(),
    callback(bytes, room) {
      blocks.used(bytes);
      return socket.push(room.subarray(0, bytes));
    },
  });
  blocksOf.set(socket, blocks);
  return socket;
}

/** What the socket has read so far is kept by nobody: its memory is used again, where it reads into blocks. */
export function reuseMemoryOf(socket: Duplex): void {
  blocksOf.get(socket)?.reuse();
}
