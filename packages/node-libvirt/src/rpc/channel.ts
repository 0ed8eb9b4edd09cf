/**
 * One connection to the daemon's socket: frames in and out, calls, one stream, keepalive.
 *
 * Theory of operation:
 *
 *   socket ──► FrameParser ──► keepalive: answered at once
 *                          ──► reply:     Calls, by serial
 *                          ──► message:   onMessage (events)
 *                          ──► stream:    the stream that this channel carries, if any
 *
 * Promises: whatever ends the connection is told once, as one typed error, to every pending call, to the stream and to
 * onClose. Bytes that no libvirt sends end the connection with kind 'protocol'.
 */
import type { Duplex } from 'node:stream';
import { errorFromReply, LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { messageNumbered, type Procedure, procedureNamed } from '../protocol/procedures.ts';
import type { Transport } from '../transport/transport.ts';
import { XdrError, XdrReader } from '../xdr/reader.ts';
import { type CallOptions, Calls } from './calls.ts';
import { decodeErrorReply } from './error-reply.ts';
import {
  encodeFrame,
  FRAME_MAX_BYTES,
  type Frame,
  FrameParser,
  MessageStatus,
  MessageType,
} from './framing.ts';
import { Keepalive, KEEPALIVE_PROGRAM, type KeepaliveOptions, PING, PONG } from './keepalive.ts';

export interface ChannelOptions {
  transport: Transport;
  keepalive: KeepaliveOptions | false;
  /** Events and other messages, decoded. */
  onMessage?(name: string, body: unknown): void;
  /** Called once, when the connection is gone. */
  onClose?(error: LibvirtTransportError): void;
  signal?: AbortSignal | undefined;
}

/** The receiving end of a stream. */
export interface StreamSink {
  /** @returns false to pause the socket until `resume`. */
  data(bytes: Buffer): boolean;
  /** The daemon has no more data. */
  ended(): void;
  /** The daemon has confirmed that the stream is finished. */
  finished(): void;
  failed(error: Error): void;
}

interface OpenStream {
  procedure: Procedure;
  serial: number;
  sink: StreamSink;
}

type StreamStatus = (typeof MessageStatus)[keyof typeof MessageStatus];

/** Serials are 32-bit and wrap; 0 belongs to messages. */
const SERIAL_MAX = 0xffff_ffff;

export class Channel {
  readonly #socket: Duplex;
  readonly #options: ChannelOptions;
  readonly #parser = new FrameParser();
  readonly #calls = new Calls<Frame>((frame) => this.#socket.write(frame));
  #keepalive: Keepalive | null = null;
  #stream: OpenStream | null = null;
  #lastSerial = 0;
  #closedBy: LibvirtTransportError | null = null;

  /**
   * Connects. Nothing is sent yet.
   *
   * @throws {LibvirtTransportError} What the transport throws.
   */
  static async connect(options: ChannelOptions): Promise<Channel> {
    return new Channel(await options.transport.open(options.signal), options);
  }

  private constructor(socket: Duplex, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on('data', (chunk: Buffer) => this.#socketOnData(chunk));
    socket.on('error', (error) => this.#fail('closed', 'the connection to libvirt broke', error));
    socket.on('close', () => this.#fail('closed', 'libvirt closed the connection'));
    if (socket.destroyed) this.#fail('closed', 'libvirt closed the connection');
  }

  get isClosed(): boolean {
    return this.#closedBy !== null;
  }

  get calls(): Pick<Calls<Frame>, 'inFlight' | 'waiting' | 'abandoned' | 'isFull' | 'isStuck'> {
    return this.#calls;
  }

  /** Starts to send pings when the daemon is silent. To be called once the daemon has agreed to keepalive. */
  startKeepalive(): void {
    if (this.#options.keepalive === false || this.isClosed) return;
    this.#keepalive = new Keepalive(this.#options.keepalive, {
      ping: () => this.#sendKeepalive(PING),
      dead: () => this.#fail('keepalive', 'libvirt stopped answering'),
    });
  }

  /**
   * Calls a procedure.
   *
   * @throws {LibvirtError} The daemon's refusal.
   * @throws {LibvirtTransportError} No reply. @throws {LibvirtUsageError} Arguments that cannot be sent.
   */
  async call(name: string, args: unknown, options: CallOptions): Promise<unknown> {
    const procedure = procedureNamed(name);
    if (procedure.opensStream) throw new LibvirtUsageError(`${name} opens a stream: use openStream`);
    return this.#submit(procedure, this.#nextSerial(), args, options);
  }

  /** Calls a procedure that opens a stream. A channel carries one stream in its life. */
  async openStream(name: string, args: unknown, sink: StreamSink, options: CallOptions): Promise<unknown> {
    const procedure = procedureNamed(name);
    if (!procedure.opensStream) throw new LibvirtUsageError(`${name} opens no stream: use call`);
    if (this.#stream !== null) throw new Error('this channel has carried a stream already');
    const serial = this.#nextSerial();
    this.#stream = { procedure, serial, sink };
    return this.#submit(procedure, serial, args, options);
  }

  /**
   * Sends a packet on the stream.
   *
   * @param done Called when the socket has taken it, which is the back-pressure.
   */
  sendStream(status: StreamStatus, bytes: Uint8Array, done?: (error?: Error | null) => void): void {
    const { procedure, serial } = this.#openedStream();
    const header = {
      program: procedure.program,
      procedure: procedure.number,
      type: MessageType.stream,
      serial,
      status,
    };
    this.#socket.write(
      encodeFrame(header, (writer) => writer.raw(bytes)),
      done,
    );
  }

  /** Lets the socket read on after a sink has answered false. */
  resume(): void {
    this.#socket.resume();
  }

  /**
   * Ends the connection after what has been written.
   *
   * @param error What pending calls get. @default kind 'closed'
   */
  close(error?: LibvirtTransportError): void {
    this.#end(error ?? new LibvirtTransportError('closed', 'the connection was closed'), 'orderly');
  }

  #submit(procedure: Procedure, serial: number, args: unknown, options: CallOptions): Promise<unknown> {
    const header = {
      program: procedure.program,
      procedure: procedure.number,
      type: MessageType.call,
      serial,
      status: 0,
    };
    const frame = encodeFrame(header, (writer) => procedure.args?.encode(writer, args));
    if (frame.length > FRAME_MAX_BYTES)
      throw new LibvirtUsageError(`${procedure.name}: the arguments are too long`);
    const decode = (reply: Frame) => this.#decodeReply(procedure, reply);
    return this.#calls.submit({ serial, procedure: procedure.name, frame, decode }, options);
  }

  #decodeReply(procedure: Procedure, frame: Frame): unknown {
    const reader = new XdrReader(frame.body);
    if (frame.status === MessageStatus.error)
      throw this.#decoded(() => errorFromReply(decodeErrorReply(reader), procedure.name));
    if (frame.type === MessageType.replyWithDescriptors) throw descriptorsError(procedure.name);
    return this.#decoded(() => {
      const reply = procedure.reply?.decode(reader);
      if (reader.left > 0)
        throw new XdrError(`the reply to ${procedure.name} has ${reader.left} bytes too many`);
      return reply;
    });
  }

  /** Runs a decoder for a caller; what it refuses ends the connection, and is that caller's error, too. */
  #decoded<T>(decode: () => T): T {
    try {
      return decode();
    } catch (error) {
      throw this.#failDecoding(error);
    }
  }

  /** @throws {unknown} The error itself, when it is a mistake of ours and not of the bytes. */
  #failDecoding(error: unknown): LibvirtTransportError {
    if (!(error instanceof XdrError)) throw error;
    return this.#fail('protocol', `libvirt sent what it should not: ${error.message}`, error);
  }

  #dispatch(frame: Frame): void {
    const handler = this.#handlerOf(frame);
    if (handler === undefined) throw new XdrError(`a frame is of type ${frame.type}`);
    handler.call(this, frame);
  }

  #handlerOf(frame: Frame): ((frame: Frame) => void) | undefined {
    if (frame.program === KEEPALIVE_PROGRAM) return this.#onKeepalive;
    switch (frame.type) {
      case MessageType.reply:
      case MessageType.replyWithDescriptors:
        return this.#onReply;
      case MessageType.message:
        return this.#onMessage;
      case MessageType.stream:
        return this.#onStream;
      default:
        return undefined;
    }
  }

  #onKeepalive(frame: Frame): void {
    if (frame.procedure === PING) this.#sendKeepalive(PONG);
  }

  #onReply(frame: Frame): void {
    if (!this.#calls.reply(frame.serial, frame))
      throw new XdrError(`a reply has the serial ${frame.serial}, which no call has`);
  }

  /** A message of a kind that is not known here was never asked for; a newer daemon may send it, and it is dropped. */
  #onMessage(frame: Frame): void {
    const message = messageNumbered(frame.program, frame.procedure);
    if (message === undefined) return;
    this.#options.onMessage?.(message.name, message.body.decode(new XdrReader(frame.body)));
  }

  #onStream(frame: Frame): void {
    const stream = this.#stream;
    if (stream === null || stream.serial !== frame.serial)
      throw new XdrError('data of a stream that was not opened');
    if (frame.status === MessageStatus.error) stream.sink.failed(this.#streamError(stream, frame));
    else if (frame.status === MessageStatus.ok) stream.sink.finished();
    else if (frame.body.length === 0) stream.sink.ended();
    else if (!stream.sink.data(Buffer.from(frame.body))) this.#socket.pause();
  }

  #streamError(stream: OpenStream, frame: Frame): Error {
    return errorFromReply(decodeErrorReply(new XdrReader(frame.body)), stream.procedure.name);
  }

  #sendKeepalive(procedure: number): void {
    const header = { program: KEEPALIVE_PROGRAM, procedure, type: MessageType.message, serial: 0, status: 0 };
    if (!this.isClosed) this.#socket.write(encodeFrame(header));
  }

  #openedStream(): OpenStream {
    if (this.#stream === null) throw new Error('this channel carries no stream');
    return this.#stream;
  }

  #nextSerial(): number {
    this.#lastSerial = this.#lastSerial === SERIAL_MAX ? 1 : this.#lastSerial + 1;
    return this.#lastSerial;
  }

  #fail(kind: LibvirtTransportError['kind'], message: string, cause?: Error): LibvirtTransportError {
    return this.#end(new LibvirtTransportError(kind, message, cause ? { cause } : undefined), 'atOnce');
  }

  /**
   * Ends the connection for one reason; the first one stands, and is returned. An orderly end lets written bytes go
   * out; a broken or lying peer is cut off.
   */
  #end(error: LibvirtTransportError, manner: 'orderly' | 'atOnce'): LibvirtTransportError {
    if (this.#closedBy !== null) return this.#closedBy;
    this.#closedBy = error;
    this.#keepalive?.stop();
    if (manner === 'orderly') this.#socket.end(() => this.#socket.destroy());
    else this.#socket.destroy();
    this.#calls.close(error);
    this.#stream?.sink.failed(error);
    this.#options.onClose?.(error);
    return error;
  }

  #socketOnData(chunk: Buffer): void {
    this.#keepalive?.received();
    try {
      for (const frame of this.#parser.push(chunk)) if (!this.isClosed) this.#dispatch(frame);
    } catch (error) {
      this.#failDecoding(error);
    }
  }
}

function descriptorsError(procedure: string): Error {
  return new LibvirtTransportError(
    'descriptors',
    `${procedure} answers with file descriptors, which Node.js cannot receive`,
  );
}
