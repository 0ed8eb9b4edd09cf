/**
 * A client of the NBD protocol, as far as one disk is read or written from one end to the other by one caller.
 *
 *   handshake ─▶ NBD_OPT_GO ─▶ requests, one after the other, each answered before the next ─▶ disconnect
 *
 * The far side is qemu-nbd in its cage, which may have been taken over by the bytes that it reads: what it says is
 * bounded, and believed in nothing but the bytes of the disk.
 *
 * @see the NBD protocol, doc/proto.md of NetworkBlockDevice/nbd
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { AgentError } from '../../model/errors.ts';
import { MIB } from '../../model/units.ts';
import type { DiskSink } from '../contracts/extents.ts';

const INIT_MAGIC = Buffer.from('NBDMAGIC');
const OPTION_MAGIC = Buffer.from('IHAVEOPT');
/** NBD_FLAG_C_FIXED_NEWSTYLE and NBD_FLAG_C_NO_ZEROES. */
const CLIENT_FLAGS = 3;
const NBD_OPT_GO = 7;
const NBD_REP_ACK = 1;
const NBD_REP_INFO = 3;
const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, writeZeroes: 6 } as const;
/** Replies to the one option: the size, and that it is done; each with few bytes. */
const OPTION_REPLIES_LIMIT = 8;
const OPTION_BYTES_LIMIT = 4096;
/** Bytes of one request; servers take 32 MiB. */
const PAYLOAD_BYTES = 4 * MIB;
/** The same of zeros, which have no payload. */
const ZEROS_BYTES = 1024 * MIB;

export class NbdClient implements DiskSink {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  /** What has come and was not asked for yet. */
  #rest: Buffer = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#chunks = socket[Symbol.asyncIterator]();
  }

  /**
   * @param signal Ends it, whatever it does.
   * @throws ENOENT, ECONNREFUSED: nobody listens there yet. @throws {AgentError} UNAVAILABLE
   */
  static async open(path: string, signal: AbortSignal): Promise<NbdClient> {
    const socket = connect({ path, signal });
    try {
      await once(socket, 'connect');
      const client = new NbdClient(socket);
      // What goes wrong later is told by the call that meets it.
      socket.on('error', () => undefined);
      await client.#shakeHands();
      return client;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  async read(offset: number, length: number): Promise<Buffer> {
    await this.#request(COMMAND.read, offset, length);
    return this.#take(length);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length; done += PAYLOAD_BYTES) {
      const part = data.subarray(done, done + PAYLOAD_BYTES);
      await this.#request(COMMAND.write, offset + done, part.length, part);
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZEROS_BYTES)
      await this.#request(COMMAND.writeZeroes, offset + done, Math.min(ZEROS_BYTES, length - done));
  }

  /** All that was written is in the file. */
  async flush(): Promise<void> {
    await this.#request(COMMAND.flush, 0, 0);
  }

  /** The server ends with its only client. */
  close(): void {
    this.#socket.end(header(COMMAND.disconnect, 0, 0));
    this.#socket.destroySoon();
  }

  async #shakeHands(): Promise<void> {
    const hello = await this.#take(INIT_MAGIC.length + OPTION_MAGIC.length + 2);
    if (!hello.subarray(0, 16).equals(Buffer.concat([INIT_MAGIC, OPTION_MAGIC])))
      throw strange('its greeting');
    const go = Buffer.alloc(26);
    go.writeUInt32BE(CLIENT_FLAGS, 0);
    OPTION_MAGIC.copy(go, 4);
    go.writeUInt32BE(NBD_OPT_GO, 12);
    go.writeUInt32BE(6, 16); // the length of an empty name, and no questions
    this.#socket.write(go);
    for (let replies = 0; replies < OPTION_REPLIES_LIMIT; replies++) {
      const reply = await this.#take(20);
      const [type, length] = [reply.readUInt32BE(12), reply.readUInt32BE(16)];
      if (length > OPTION_BYTES_LIMIT) throw strange('its answer');
      await this.#take(length);
      if (type === NBD_REP_ACK) return;
      if (type !== NBD_REP_INFO) throw strange(`its answer, ${type}`);
    }
    throw strange('its answers');
  }

  async #request(command: number, offset: number, length: number, payload?: Uint8Array): Promise<void> {
    this.#socket.write(header(command, offset, length));
    if (payload !== undefined) this.#socket.write(payload);
    const reply = await this.#take(16);
    if (reply.readUInt32BE(0) !== REPLY_MAGIC) throw strange('its reply');
    const error = reply.readUInt32BE(4);
    if (error === 0) return;
    const code = error === 28 ? 'CAPACITY_EXCEEDED' : 'UNAVAILABLE';
    throw new AgentError(code, `The server of a disk answers with error ${error}`);
  }

  async #take(length: number): Promise<Buffer> {
    const chunks = [this.#rest];
    let bytes = this.#rest.length;
    while (bytes < length) {
      const { value, done } = await this.#chunks.next();
      if (done === true) throw new AgentError('UNAVAILABLE', 'The server of a disk has ended');
      chunks.push(value);
      bytes += value.length;
    }
    const all = Buffer.concat(chunks);
    this.#rest = all.subarray(length);
    return all.subarray(0, length);
  }
}

/** There is one request at a time, so that its handle says nothing. */
function header(command: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

function strange(what: string): AgentError {
  return new AgentError('UNAVAILABLE', `The server of a disk does not speak NBD: ${what} is strange`);
}
