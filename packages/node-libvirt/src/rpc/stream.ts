/**
 * A libvirt stream (console, screenshot, volume data) as a Node.js Duplex.
 *
 * Theory of operation: libvirt's streams have no window of their own, so back-pressure is the socket's: when the
 * reader is slow, the socket is not read. That would stop everything else on the connection, so each stream has a
 * channel to itself. That channel takes no part in keepalive, since a paused socket cannot answer pings.
 *
 *   data   ◄── packets CONTINUE; an empty one is the end of data, and then this end finishes, too
 *   write  ──► packets CONTINUE of at most 262,120 bytes
 *   end()  ──► OK, and the daemon's OK is awaited before 'finish' and 'end': a reader that comes to the end has all
 *   destroy() before that ──► ERROR, which aborts
 *
 * The daemon may begin to send before it replies to the call that opens the stream: a thread of its own replies, and on a
 * busy machine that one is late. The reply comes behind the data, so until then the socket is read on, up to a limit.
 *
 * A sparse stream has holes as well: ranges of zeros that are not sent. Whoever reads it as bytes gets the zeros, a piece
 * of them in each turn of the event loop; whoever reads `segments()` gets the holes. What comes before anybody reads waits
 * here, until it is known which of the two it will be. What has come and is not yet read is at most what one read of the
 * socket brings, and the two buffers of Node.js, of 256 KiB each.
 *
 * Reading makes garbage: each piece is the reader's to keep. Whoever keeps none takes them with `consume()`.
 */
import { Duplex, Readable } from 'node:stream';
import { virStorageVolDownloadFlags, virStorageVolUploadFlags } from '../constants.gen.ts';
import { LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { checkListener } from '../guarded.ts';
import { XdrError } from '../xdr/reader.ts';
import type { CallOptions } from './calls.ts';
import type { Channel } from './channel.ts';
import { HEADER_BYTES, MessageStatus } from './framing.ts';
import { PACKET_MAX_BYTES, type Packet, packetsOf } from './packets.ts';
import { SegmentConsumer, type TakeSegment } from './segment-consumer.ts';
import { standingAlone } from './standing-alone.ts';
import type { StreamLink, StreamSink } from './stream-link.ts';

/** A part of a sparse stream: bytes, or how many zeros. */
export type StreamSegment = { data: Buffer } | { hole: bigint };

type Done = (error?: Error | null) => void;

/** Zeros of a hole that are given at once. */
const ZEROS_BYTES = 262_144;

/** Segments that wait for their reader before the socket is paused. The socket's chunks are of 64 KiB at most. */
const SEGMENTS_WAITING = 4;

/** What may come before the reply that opens the stream: 64 packets. A daemon on a busy machine sends some of them. */
const EARLY_BYTES_MAX = 16 * 1024 ** 2;

/** The flag with which a procedure opens a sparse stream. @see sparseflag in remote_protocol.x */
const SPARSE_FLAGS: Readonly<Record<string, number>> = {
  storageVolDownload: virStorageVolDownloadFlags.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM,
  storageVolUpload: virStorageVolUploadFlags.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM,
};

/** Longest hole: a file's size is a signed 64-bit number. */
const HOLE_MAX = 2n ** 63n - 1n;

export class LibvirtStream extends Duplex implements StreamSink {
  readonly #channel: Channel;
  /** What has come and could not be given yet. */
  readonly #arrived: (Buffer | bigint)[] = [];
  /** Stand for holes in the order of what is written. */
  readonly #holes = new WeakMap<Uint8Array, bigint>();
  #link: StreamLink | null = null;
  /** Who reads: nobody yet, the Duplex's own reader, or a reader of segments. */
  #reader: 'none' | 'bytes' | 'segments' = 'none';
  /** What has come before anybody reads, headers included. */
  #unclaimedBytes = 0;
  #segments: Readable | null = null;
  #consumer: SegmentConsumer | null = null;
  /** What the caller of `consume` waits for. */
  #consumed: PromiseWithResolvers<void> | null = null;
  #isSparse = false;
  /** Nothing more is sent: it is confirmed, failed or destroyed. */
  #isOver = false;
  #isConfirmed = false;
  #isGivingZeros = false;
  /** All data has come before the reply: it can be confirmed when the stream is open. */
  #hasEndedEarly = false;
  #onFinished: Done | null = null;
  /** What the stream failed with before it was open. */
  #openingFailure: Error | null = null;

  /** @internal */
  constructor(channel: Channel) {
    super({ allowHalfOpen: false, highWaterMark: PACKET_MAX_BYTES });
    this.#channel = channel;
  }

  /** Whether it can have holes: a volume was opened with the flag SPARSE_STREAM. */
  get isSparse(): boolean {
    return this.#isSparse;
  }

  /**
   * Reads a sparse stream as data and holes, in order. It ends when the daemon has confirmed the end. Leaving the loop
   * before destroys the stream.
   *
   * @throws {LibvirtUsageError} The stream is being read already.
   * @throws As reading the stream does.
   */
  segments(): AsyncIterable<StreamSegment> {
    this.#claim();
    this.#segments = new Readable({
      objectMode: true,
      highWaterMark: SEGMENTS_WAITING,
      read: () => this.#give(),
      destroy: (error, done) => this.#segmentsOnDestroy(error, done),
    });
    this.resume(); // nothing is read this way any more, but the end is
    return this.#segments;
  }

  /**
   * Reads the stream with a function that keeps nothing: the memory of a part is used again once the function is done
   * with it, so nothing is left to the garbage collector. The fastest way to read a volume.
   *
   *   await stream.consume((segment) => 'data' in segment && file.appendFile(segment.data));
   *
   * @param take Is given data, and holes where the stream is sparse, in order. When it returns a promise, the part is its
   *   until that is settled, and nothing more is read meanwhile. What it throws destroys the stream.
   * @returns When the daemon has confirmed the end.
   * @throws {LibvirtUsageError} The stream is being read already, or `take` is no function.
   * @throws As reading the stream does, and what `take` throws.
   */
  async consume(take: TakeSegment): Promise<void> {
    checkListener(take);
    this.#claim();
    this.#consumed = Promise.withResolvers();
    this.#consumer = new SegmentConsumer(take, {
      free: () => this.#consumerOnFree(),
      failure: (error) => this.#consumerOnFailure(error),
    });
    this.resume(); // as for segments
    this.#give();
    await this.#consumed.promise;
  }

  /**
   * Writes a hole into a sparse stream, after all that was written before.
   *
   * @param length Bytes, from 1.
   * @returns When the socket has taken it, which is the back-pressure.
   * @throws {LibvirtUsageError} The stream is not sparse, or the length is none.
   * @see virStreamSendHole, libvirt-stream.h
   */
  async writeHole(length: number | bigint): Promise<void> {
    if (!this.#isSparse)
      throw new LibvirtUsageError('holes need a volume opened with the flag SPARSE_STREAM');
    const marker = Buffer.alloc(0);
    this.#holes.set(marker, checkedHole(length));
    await new Promise<void>((resolve, reject) => {
      this.write(marker, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** @internal Makes the call that opens the stream. Once. A failure before its end is thrown, and not emitted. */
  async open(procedure: string, args: unknown, options: CallOptions): Promise<unknown> {
    this.#isSparse = isSparse(procedure, args);
    const opening = this.#channel.openStream(procedure, args, this, options);
    const { reply, link } = await opening.catch((error: unknown) => {
      throw this.#openingFailure ?? error;
    });
    if (this.#openingFailure !== null) throw this.#openingFailure;
    this.#link = link;
    if (this.#hasEndedEarly) this.end();
    return reply;
  }

  /** @internal */
  data(bytes: Buffer): boolean {
    if (this.destroyed) return true;
    const part = this.#consumer === null ? standingAlone(bytes) : bytes;
    return this.#take(part, HEADER_BYTES + bytes.length);
  }

  /** @internal */
  hole(length: bigint): boolean {
    if (!this.#isSparse) throw new XdrError('a hole in a stream that was opened without holes');
    if (this.destroyed || length === 0n) return true;
    return this.#take(length, HEADER_BYTES);
  }

  /** @internal */
  ended(): void {
    if (this.#link === null) this.#hasEndedEarly = true;
    else this.end();
  }

  /** @internal */
  finished(): void {
    this.#isOver = true;
    this.#isConfirmed = true;
    this.#onFinished?.();
    this.#onFinished = null;
    this.end();
    this.#give();
    if (this.#arrived.length === 0) this.read(0); // who only writes does not read the end, which closes the stream
  }

  /** @internal */
  failed(error: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#onFinished !== null) this.#onFinished(error);
    else if (this.#link !== null) this.destroy(error);
    else this.#failOpening(error);
  }

  override _read(): void {
    if (this.#reader === 'none') this.#reader = 'bytes';
    if (this.#reader === 'bytes') this.#give();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#send([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: Done): void {
    if (this.#isOver || this.#link === null) done();
    else this.#finish(this.#link, done);
  }

  override _destroy(error: Error | null, done: Done): void {
    const isEarly = !this.#isOver || error !== null;
    if (!this.#isOver && !this.#channel.isClosed) this.#link?.send(MessageStatus.error, []);
    this.#isOver = true;
    this.#arrived.length = 0;
    this.#channel.close();
    if (isEarly) this.#segments?.destroy(error ?? undefined);
    if (isEarly) this.#consumed?.reject(error ?? destroyedError());
    done(error);
  }

  /** Makes whoever calls the reader of segments. @throws {LibvirtUsageError} There is a reader already. */
  #claim(): void {
    if (this.destroyed && !this.readableEnded) throw this.errored ?? destroyedError();
    if (this.#reader !== 'none' || this.readableFlowing !== null || this.readableDidRead)
      throw new LibvirtUsageError('the stream is being read already');
    this.#reader = 'segments';
    this.on('error', () => {}); // the reader of the segments is told
  }

  /** @param bytes What it took to send it. @returns As `#give`. */
  #take(part: Buffer | bigint, bytes: number): boolean {
    this.#arrived.push(part);
    this.#unclaimedBytes += bytes;
    return this.#link === null ? this.#takeEarly() : this.#give();
  }

  /** Behind this comes the reply that the opening waits for. @returns true: the socket is never paused here. */
  #takeEarly(): boolean {
    if (this.#unclaimedBytes > EARLY_BYTES_MAX) this.failed(earlyError());
    return true;
  }

  /**
   * Gives the reader what has come, as far as the reader takes it.
   *
   * @returns false when the socket is to be paused; it is resumed when all is given and the reader wants more.
   */
  #give(): boolean {
    if (this.#reader === 'none' && this.#arrived.length > 0)
      return this.#unclaimedBytes < this.readableHighWaterMark;
    if (this.#consumer?.isBusy) return false;
    while (this.#arrived.length > 0) if (!this.#giveNext()) return false;
    if (this.#isConfirmed) this.#giveEnd();
    else this.#channel.resume();
    return true;
  }

  #giveEnd(): void {
    this.#segments?.push(null);
    this.#consumed?.resolve();
    this.push(null);
  }

  #giveNext(): boolean {
    const next = this.#arrived[0]!;
    if (this.#reader === 'bytes' && typeof next === 'bigint') return this.#giveZeros(next);
    this.#arrived.shift();
    if (this.#reader === 'bytes') return this.push(next);
    const segment = typeof next === 'bigint' ? { hole: next } : { data: next };
    return this.#segments?.push(segment) ?? this.#giveConsumer(segment);
  }

  #giveConsumer(segment: StreamSegment): boolean {
    const isDone = this.#consumer!.push(segment);
    if (isDone && this.#arrived.length === 0) this.#channel.reuseMemory();
    return isDone;
  }

  #consumerOnFree(): void {
    if (this.#arrived.length === 0) this.#channel.reuseMemory();
    this.#give();
  }

  #consumerOnFailure(error: unknown): void {
    this.#consumed?.reject(error);
    this.destroy();
  }

  /** A hole may be of any length, so there is a turn of the event loop between two pieces of it. */
  #giveZeros(length: bigint): boolean {
    if (this.#isGivingZeros) return false;
    const bytes = length < ZEROS_BYTES ? Number(length) : ZEROS_BYTES;
    if (length === BigInt(bytes)) this.#arrived.shift();
    else this.#arrived[0] = length - BigInt(bytes);
    this.#isGivingZeros = true;
    setImmediate(() => {
      this.#isGivingZeros = false;
      if (this.readableLength < this.readableHighWaterMark) this.#give();
    });
    this.push(Buffer.alloc(bytes));
    return false;
  }

  /** Nobody has the stream yet, so nobody could hear its 'error': whoever opens it is told. */
  #failOpening(error: Error): void {
    this.#openingFailure = error;
    this.destroy();
  }

  #send(chunks: readonly Buffer[], done: Done): void {
    const packets = packetsOf(chunks.map((chunk) => this.#holes.get(chunk) ?? chunk));
    if (this.#isOver || this.#link === null) done(new LibvirtTransportError('closed', 'the stream is over'));
    else if (packets.length === 0) done();
    else sendPackets(this.#link, packets, done);
  }

  /** Tells the daemon that all is written, and waits for its word. */
  #finish(link: StreamLink, done: Done): void {
    this.#onFinished = done;
    link.send(MessageStatus.ok, []);
    this.#channel.resume();
  }

  #segmentsOnDestroy(error: Error | null, done: Done): void {
    this.destroy();
    done(error);
  }
}

function sendPackets(link: StreamLink, packets: readonly Packet[], done: Done): void {
  link.together(() => {
    for (const [index, packet] of packets.entries())
      sendPacket(link, packet, index === packets.length - 1 ? done : undefined);
  });
}

function sendPacket(link: StreamLink, packet: Packet, done: Done | undefined): void {
  if ('hole' in packet) link.sendHole(packet.hole, done);
  else link.send(MessageStatus.continue, packet.pieces, done);
}

function earlyError(): LibvirtTransportError {
  const message = `libvirt sent over ${EARLY_BYTES_MAX} bytes of a stream before it replied to its opening`;
  return new LibvirtTransportError('limit', message);
}

function destroyedError(): LibvirtTransportError {
  return new LibvirtTransportError('closed', 'the stream was destroyed');
}

function isSparse(procedure: string, args: unknown): boolean {
  const flag = Object.hasOwn(SPARSE_FLAGS, procedure) ? SPARSE_FLAGS[procedure] : undefined;
  return flag !== undefined && (Number((args as { flags?: unknown } | undefined)?.flags) & flag) !== 0;
}

function checkedHole(length: number | bigint): bigint {
  const big = typeof length === 'number' && Number.isSafeInteger(length) ? BigInt(length) : length;
  if (typeof big === 'bigint' && big > 0n && big <= HOLE_MAX) return big;
  throw new LibvirtUsageError(
    `a hole has 1 to ${HOLE_MAX} bytes, not ${typeof length === 'bigint' ? length : String(length).slice(0, 64)}`,
  );
}
