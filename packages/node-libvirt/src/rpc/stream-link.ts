/**
 * The packets of one stream, in both directions, on the channel that carries it. What they mean to a reader and a
 * writer is src/rpc/stream.ts.
 *
 *   received   data ──► ended (empty packet) ──► finished (OK)      failed (ERROR) at any time
 *   sent       data, holes ──► OK, or ERROR to abort
 *
 * @see virNetMessageType and virNetStreamHole, virnetprotocol.x
 */
import type { Duplex } from 'node:stream';
import { errorFromReply } from '../errors.ts';
import type { Procedure } from '../protocol/procedures.ts';
import { XdrError, XdrReader } from '../xdr/reader.ts';
import { decodeErrorReply } from './error-reply.ts';
import { encodeFrame, encodeHeader, type Frame, type Header, MessageStatus, MessageType } from './framing.ts';

/** The receiving end of a stream. */
export interface StreamSink {
  /** @returns false to pause the socket until the channel is resumed. */
  data(bytes: Buffer): boolean;
  /** So many zeros. @returns As `data`. @throws {XdrError} The stream was opened without holes. */
  hole(length: bigint): boolean;
  /** The daemon has no more data. */
  ended(): void;
  /** The daemon has confirmed that the stream is finished. */
  finished(): void;
  failed(error: Error): void;
}

export type StreamStatus = (typeof MessageStatus)[keyof typeof MessageStatus];

type Done = (error?: Error | null) => void;

/** Of virNetStreamHole: a length and flags, of which none is defined. */
const HOLE_FLAGS = 0;

export class StreamLink {
  readonly #procedure: Procedure;
  readonly #serial: number;
  readonly #sink: StreamSink;
  readonly #socket: Duplex;
  /** 'ended': the daemon has no more data. 'over': it has confirmed the end, or failed the stream. */
  #state: 'open' | 'ended' | 'over' = 'open';
  /** OK has been sent, and the daemon's OK is awaited. */
  #hasFinished = false;

  constructor(procedure: Procedure, serial: number, sink: StreamSink, socket: Duplex) {
    this.#procedure = procedure;
    this.#serial = serial;
    this.#sink = sink;
    this.#socket = socket;
  }

  /**
   * Takes a packet. It may come before the reply that opens the stream: the daemon makes both in threads of their own.
   *
   * @returns false to pause the socket.
   * @throws {XdrError} It is no packet of this stream.
   */
  receive(frame: Frame): boolean {
    this.#checkIsOurs(frame);
    switch (frame.status) {
      case MessageStatus.error:
        this.failed(this.#errorOf(frame));
        return true;
      case MessageStatus.ok:
        if (!this.#hasFinished)
          throw new XdrError('the end of a stream is confirmed that has not ended here');
        this.#state = 'over';
        this.#sink.finished();
        return true;
      case MessageStatus.continue:
        return this.#receiveData(frame);
      default:
        throw new XdrError(`a packet of a stream has the status ${frame.status}`);
    }
  }

  /**
   * Takes a reply that no call has asked for. The daemon refuses a hole with a reply, not with a packet.
   *
   * @see virNetServerProgramSendReplyError, virnetserverprogram.c
   * @returns false when it is not that.
   */
  refusedBy(frame: Frame): boolean {
    if (frame.serial !== this.#serial || frame.status !== MessageStatus.error || this.#state === 'over')
      return false;
    this.failed(this.#errorOf(frame));
    return true;
  }

  /** Tells the sink that the stream has failed, unless it is over. */
  failed(error: Error): void {
    this.#state = 'over';
    this.#sink.failed(error);
  }

  /**
   * Sends a packet whose body is what the pieces hold together. They are not copied: they must not change until `done`.
   *
   * @param done Called when the socket has taken it, which is the back-pressure.
   */
  send(status: StreamStatus, pieces: readonly Uint8Array[], done?: Done): void {
    if (status === MessageStatus.ok) this.#hasFinished = true;
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const parts = [encodeHeader(this.#header(MessageType.stream, status), bytes), ...pieces];
    this.#socket.cork();
    for (const [index, part] of parts.entries())
      this.#socket.write(part, index === parts.length - 1 ? done : undefined);
    this.#socket.uncork();
  }

  sendHole(length: bigint, done?: Done): void {
    const header = this.#header(MessageType.streamHole, MessageStatus.continue);
    const frame = encodeFrame(header, (writer) => {
      writer.hyper(length);
      writer.uint(HOLE_FLAGS);
    });
    this.#socket.write(frame, done);
  }

  /** Lets what `send` sends go out together. */
  together(send: () => void): void {
    this.#socket.cork();
    send();
    this.#socket.uncork();
  }

  #receiveData({ type, body }: Frame): boolean {
    if (this.#state === 'ended') throw new XdrError('data of a stream that has ended');
    if (type === MessageType.streamHole) return this.#sink.hole(decodeHole(body));
    if (body.length > 0) return this.#sink.data(body);
    this.#state = 'ended';
    this.#sink.ended();
    return true;
  }

  #checkIsOurs({ program, procedure, serial }: Frame): void {
    const isOurs =
      serial === this.#serial && procedure === this.#procedure.number && program === this.#procedure.program;
    if (!isOurs || this.#state === 'over') throw new XdrError('data of a stream that is not open');
  }

  #errorOf(frame: Frame): Error {
    const { name, since } = this.#procedure;
    return errorFromReply(decodeErrorReply(new XdrReader(frame.body)), name, since);
  }

  #header(type: number, status: number): Header {
    const { program, number } = this.#procedure;
    return { program, procedure: number, type, serial: this.#serial, status };
  }
}

function decodeHole(body: Buffer): bigint {
  const reader = new XdrReader(body);
  const length = reader.hyper();
  const flags = reader.uint();
  if (length < 0n || flags !== HOLE_FLAGS || reader.left > 0)
    throw new XdrError(`a hole of ${length} bytes in a stream, with flags ${flags}`);
  return length;
}
