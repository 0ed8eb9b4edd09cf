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

/** A read is given at least this share of a block; with less room left, another block is begun. */
const ROOM_SHARE = 1 / 8;

export class ReadBlocks {
  /** Bytes of the next block. */
  #blockBytes = SMALL_BLOCK_BYTES;
  #block = Buffer.alloc(0);
  /** The part of the block that is in use; nothing is when both are the same. */
  #from = 0;
  #to = 0;
  /** The room for the next read. */
  #room = this.#block;
  #roomAt = 0;

  /** Where the next read goes to: behind what is in use, or before it. */
  room(): Buffer {
    const [before, behind] = [this.#from, this.#block.length - this.#to];
    const isTooSmall = Math.max(before, behind) < this.#blockBytes * ROOM_SHARE;
    if (isTooSmall || (this.#isFree && this.#block.length < this.#blockBytes)) this.#startBlock();
    else if (before > behind) this.#giveRoom(0, this.#from);
    else this.#giveRoom(this.#to, this.#block.length);
    return this.#room;
  }

  /** Tells how much of the room a read has used. */
  used(bytes: number): void {
    if (bytes === this.#room.length) this.#blockBytes = LARGE_BLOCK_BYTES;
    if (this.#isFree) this.#from = this.#roomAt;
    const hasTwoParts = this.#roomAt < this.#from;
    this.#from = hasTwoParts ? 0 : this.#from;
    this.#to = hasTwoParts ? this.#block.length : this.#roomAt + bytes;
  }

  /** Nobody keeps anything of what has been read. The room that was given last stays as it is. */
  reuse(): void {
    this.#from = 0;
    this.#to = 0;
  }

  get #isFree(): boolean {
    return this.#from === this.#to;
  }

  #startBlock(): void {
    this.#block = Buffer.allocUnsafeSlow(this.#blockBytes);
    this.reuse();
    this.#giveRoom(0, this.#block.length);
  }

  #giveRoom(start: number, end: number): void {
    this.#roomAt = start;
    this.#room = this.#block.subarray(start, end);
  }
}

const blocksOf = new WeakMap<Duplex, ReadBlocks>();

/**
 * Makes a socket that reads into blocks of its own. It is read as any other; but while it flows its chunks go past the buffer
 * of Node.js, which would have more read, and into memory that is lent, when the socket is paused already.
 *
 * @param connect Passes `onread` on to net.createConnection.
 */
export function readingIntoBlocks(connect: (onread: OnReadOpts) => Socket): Socket {
  const blocks = new ReadBlocks();
  const socket = connect({
    buffer: () => blocks.room(),
    callback(bytes, room) {
      blocks.used(bytes);
      const chunk = room.subarray(0, bytes);
      if (!socket.readableFlowing || socket.readableLength > 0) return socket.push(chunk);
      return socket.emit('data', chunk);
    },
  });
  blocksOf.set(socket, blocks);
  return socket;
}

/** What the socket has read so far is kept by nobody: its memory is used again, where it reads into blocks. */
export function reuseMemoryOf(socket: Duplex): void {
  if (socket.readableLength === 0) blocksOf.get(socket)?.reuse();
}
