/**
 * One connection to the daemon's socket: frames in and out, calls, one stream, keepalive.
 *
 * Theory of operation:
 *
 *   socket ──► FrameParser ──► keepalive: answered at once
 *                          ──► reply:     Calls, by serial
 *                          ──► message:   onMessage (events)
 *                          ──► stream:    the StreamLink that this channel carries, if any
 *
 * Promises: whatever ends the connection is told once, as one typed error, to every pending call, to the stream and to
 * onClose. Bytes that no libvirt sends end the connection with kind 'protocol'.
 */
import type { Duplex } from 'node:stream';
import { LibvirtError, LibvirtTransportError } from '../errors.ts';
import { messageNumbered, type Procedure } from '../protocol/procedures.ts';
import { reuseMemoryOf } from '../transport/read-blocks.ts';
import type { Transport } from '../transport/transport.ts';
import { type TypedParamsShape, XdrError, XdrReader } from '../xdr/reader.ts';
import { encodeCall, procedureOf } from './call-frame.ts';
import { type CallOptions, Calls } from './calls.ts';
import { encodeFrame, type Frame, FrameParser, MessageType } from './framing.ts';
import { Keepalive, KEEPALIVE_PROGRAM, type KeepaliveOptions, PING, PONG } from './keepalive.ts';
import { decodeReply } from './reply.ts';
import { StreamLink, type StreamSink } from './stream-link.ts';

export interface ChannelOptions {
  transport: Transport;
  keepalive: KeepaliveOptions | false;
  /** Events and other messages, decoded. */
  onMessage?(name: string, body: unknown): void;
  /** The daemon has refused a call whose caller still waits. */
  onRefused?(error: LibvirtError): void;
  /** Called once, when the connection is gone. */
  onClose?(error: LibvirtTransportError): void;
  signal?: AbortSignal | undefined;
}

/** A stream whose opening the daemon has accepted. */
export interface OpenedStream {
  reply: unknown;
  link: StreamLink;
}

export interface ChannelCallOptions extends CallOptions {
  /** How arrays of typed parameters in the reply are given. @default 'list' */
  typedParams?: TypedParamsShape | undefined;
}

/** Serials are 32-bit and wrap; 0 belongs to messages. */
const SERIAL_MAX = 0xffff_ffff;

/** How long a channel that is closed in an orderly way waits until the daemon has taken what was written, ms. */
const LINGER_MS = 5_000;

export class Channel {
  readonly #socket: Duplex;
  readonly #options: ChannelOptions;
  readonly #parser = new FrameParser();
  readonly #calls = new Calls<Frame>((frame) => this.#socket.write(frame));
  #keepalive: Keepalive | null = null;
  #stream: StreamLink | null = null;
  #lastSerial = 0;
  #closedBy: LibvirtTransportError | null = null;

  /**
   * Connects. Nothing is sent yet.
   *
   * @throws {LibvirtTransportError} What the transport throws.
   */
  static async connect(options: ChannelOptions & { signal: AbortSignal }): Promise<Channel> {
    return new Channel(await options.transport.open(options.signal), options);
  }

  private constructor(socket: Duplex, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on('data', (chunk: Buffer) => this.#socketOnData(chunk));
    socket.on('error', (error) => this.#socketOnError(error));
    socket.on('close', () => this.#fail('closed', 'libvirt closed the connection'));
    if (socket.destroyed) this.#fail('closed', 'libvirt closed the connection');
  }

  get isClosed(): boolean {
    return this.#closedBy !== null;
  }

  get calls(): Pick<
    Calls<Frame>,
    'inFlight' | 'waiting' | 'abandoned' | 'isFull' | 'isStuck' | 'stuckInMs' | 'isBusy' | 'release'
  > {
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
   * Calls a procedure. What cannot be sent is thrown at once, so that no promise stands between this and the reply's.
   *
   * @throws {LibvirtError} The daemon's refusal.
   * @throws {LibvirtTransportError} No reply. @throws {LibvirtUsageError} Arguments that cannot be sent.
   */
  call(name: string, args: unknown, options: ChannelCallOptions): Promise<unknown> {
    const procedure = procedureOf(name, 'plain');
    return this.#submit(procedure, this.#nextSerial(), args, options);
  }

  /** Calls a procedure that opens a stream. A channel carries one stream in its life. */
  async openStream(
    name: string,
    args: unknown,
    sink: StreamSink,
    options: CallOptions,
  ): Promise<OpenedStream> {
    const procedure = procedureOf(name, 'stream');
    if (this.#stream !== null) throw new Error('this channel has carried a stream already');
    const serial = this.#nextSerial();
    const link = new StreamLink(procedure, serial, sink, this.#socket);
    this.#stream = link;
    return { reply: await this.#submit(procedure, serial, args, options), link };
  }

  /** Lets the socket read on after a sink has answered false. */
  resume(): void {
    this.#socket.resume();
  }

  /** The sink keeps nothing of what it has been given. */
  reuseMemory(): void {
    reuseMemoryOf(this.#socket);
  }

  /**
   * Ends the connection after what has been written.
   *
   * @param error What pending calls get. @default kind 'closed'
   */
  close(error?: LibvirtTransportError): void {
    this.#end(error ?? new LibvirtTransportError('closed', 'the connection was closed'), 'orderly');
  }

  #submit(
    procedure: Procedure,
    serial: number,
    args: unknown,
    options: ChannelCallOptions,
  ): Promise<unknown> {
    const frame = encodeCall(procedure, serial, args);
    const { typedParams = 'list' } = options;
    const decode = (reply: Frame, isWanted: () => boolean) =>
      this.#decoded(() => decodeReply(procedure, reply, { typedParams, isWanted }));
    return this.#calls.submit({ serial, procedure: procedure.name, frame, decode }, options);
  }

  /** Runs a decoder for a caller; what it refuses ends the connection, and is that caller's error, too. */
  #decoded(decode: () => unknown): unknown {
    const rethrow = (error: unknown) => {
      throw this.#failDecoding(error);
    };
    try {
      const result = decode();
      return result instanceof Promise ? result.catch(rethrow) : result;
    } catch (error) {
      return rethrow(error);
    }
  }

  /** @returns What the caller gets: the error itself, when it does not mean that the bytes are wrong. */
  #failDecoding(error: unknown): unknown {
    if (error instanceof LibvirtError) this.#options.onRefused?.(error);
    if (!(error instanceof XdrError)) return error;
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
      case MessageType.streamHole:
        return this.#onStream;
      default:
        return undefined;
    }
  }

  /**
   * While the daemon does not take what is written to it, its pings are not answered: the answers would pile up here,
   * and what waits says that we live as well as they do.
   */
  #onKeepalive(frame: Frame): void {
    if (frame.procedure === PING && !this.#socket.writableNeedDrain) this.#sendKeepalive(PONG);
  }

  #onReply(frame: Frame): void {
    if (this.#calls.reply(frame.serial, frame) || this.#stream?.refusedBy(frame)) return;
    throw new XdrError(`a reply has the serial ${frame.serial}, which no call has`);
  }

  /** A message of a kind that is not known here was never asked for; a newer daemon may send it, and it is dropped. */
  #onMessage(frame: Frame): void {
    const message = messageNumbered(frame.program, frame.procedure);
    if (message === undefined) return;
    this.#options.onMessage?.(message.name, message.body.decode(new XdrReader(frame.body)));
  }

  #onStream(frame: Frame): void {
    if (this.#stream === null) throw new XdrError('data of a stream that was not opened');
    if (!this.#stream.receive(frame)) this.#socket.pause();
  }

  #sendKeepalive(procedure: number): void {
    const header = { program: KEEPALIVE_PROGRAM, procedure, type: MessageType.message, serial: 0, status: 0 };
    if (!this.isClosed) this.#socket.write(encodeFrame(header));
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
    if (manner === 'orderly') this.#endOrderly();
    else this.#socket.destroy();
    this.#calls.close(error);
    this.#stream?.failed(error);
    this.#options.onClose?.(error);
    return error;
  }

  /** A daemon that hangs takes nothing more: it is not waited for. */
  #endOrderly(): void {
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
    this.#socket.end(() => {
      clearTimeout(timer);
      this.#socket.destroy();
    });
  }

  /** A transport that knows why it ended says so itself. */
  #socketOnError(error: Error): void {
    if (error instanceof LibvirtTransportError) this.#end(error, 'atOnce');
    else this.#fail('closed', 'the connection to libvirt broke', error);
  }

  #socketOnData(chunk: Buffer): void {
    this.#keepalive?.received();
    this.#socket.cork();
    try {
      for (const frame of this.#parser.push(chunk)) if (!this.isClosed) this.#dispatch(frame);
    } catch (error) {
      if (this.#failDecoding(error) === error) throw error;
    } finally {
      this.#socket.uncork();
    }
  }
}
