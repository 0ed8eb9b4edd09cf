/**
 * TLS over TCP, as libvirtd's TLS port speaks it.
 *
 *   connect ──► handshake ──► the server's certificate is checked ──► one byte 1 from the server ──► frames
 *
 * The server looks at our certificate after the handshake. When it lets us in it sends one byte 1; when not, it hangs up.
 *
 * Promises: TLS 1.2 or later; unless the caller turned it off, nothing of ours is sent to a server whose certificate is
 * not signed by the CA, for this host, and valid now. Certificates are read anew for each connection.
 *
 * @see virNetClientSetTLSSession, virnetclient.c
 */
import { once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { LibvirtUsageError } from '../errors.ts';
import type { TlsEndpoint } from './endpoint.ts';
import { cannotConnect, givenUp } from './opening.ts';
import { openTcp, peerOf } from './tcp.ts';
import { handshakeError, type PeerNames, refusedByServer } from './tls-errors.ts';
import { loadTls, placesOf, type TlsMaterial, type TlsOptions } from './tls-files.ts';
import type { Privacy, Transport } from './transport.ts';

/** What the server sends when it lets us in. */
const ACCEPTED = 1;

export class TlsTransport implements Transport {
  readonly peer: string;
  readonly privacy: Privacy;
  readonly #endpoint: TlsEndpoint;
  readonly #options: TlsOptions;
  readonly #verify: boolean;

  /**
   * Looks at the certificates; nothing is opened yet.
   *
   * @throws {LibvirtUsageError} One of them is missing or malformed.
   */
  static async create(endpoint: TlsEndpoint, options: TlsOptions): Promise<TlsTransport> {
    const transport = new TlsTransport(endpoint, options);
    secureContext(await transport.#load());
    return transport;
  }

  private constructor(endpoint: TlsEndpoint, options: TlsOptions) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#verify = options.verify ?? endpoint.verify;
    this.peer = peerOf(endpoint);
    this.privacy = this.#verify ? 'private' : 'unverified';
  }

  async open(signal: AbortSignal): Promise<Duplex> {
    const { host, port } = this.#endpoint;
    const { material, context } = await this.#loadAgain();
    const below = await openTcp(host, port, signal);
    const names = { peer: this.peer, host, material };
    const socket = this.#wrap(below, context);
    const stop = () => socket.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      await once(socket, 'secureConnect', { signal }).catch((error) => {
        throw handshakeError(error, names);
      });
      await acceptance(socket, names);
      return socket;
    } catch (error) {
      socket.destroy();
      throw signal.aborted ? givenUp(this.peer, signal, 'timeout') : error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #load(): Promise<TlsMaterial> {
    return loadTls(this.#options, placesOf(this.#endpoint.pkiPath), this.#verify);
  }

  #wrap(below: net.Socket, secureContext: tls.SecureContext): tls.TLSSocket {
    const [host = ''] = this.#endpoint.host.split('%'); // certificates know no zone
    const servername = net.isIP(host) ? '' : host; // addresses are not sent, only checked
    return tls.connect({ socket: below, host, servername, secureContext, rejectUnauthorized: this.#verify });
  }

  /** It was in order when the transport was made: what has become of it since is no mistake of the caller. */
  async #loadAgain(): Promise<{ material: TlsMaterial; context: tls.SecureContext }> {
    try {
      const material = await this.#load();
      return { material, context: secureContext(material) };
    } catch (error) {
      if (error instanceof LibvirtUsageError) throw cannotConnect('auth', this.peer, error.message, error);
      throw error;
    }
  }
}

/** @throws {LibvirtUsageError} OpenSSL does not take a certificate that is well formed, for example for a weak key. */
function secureContext({ ca, crl, identity }: TlsMaterial): tls.SecureContext {
  try {
    return tls.createSecureContext({
      minVersion: 'TLSv1.2',
      ca: ca?.text ?? [],
      ...(crl === null ? {} : { crl: crl.text }),
      ...(identity === null ? {} : { cert: identity.cert.text, key: identity.key.text }),
    });
  } catch (cause) {
    const origins = [ca, crl, identity?.cert, identity?.key].flatMap((pem) => pem?.origin ?? []);
    throw new LibvirtUsageError(`OpenSSL does not take one of ${origins.join(', ')}`, { cause });
  }
}

/** Waits for the byte that lets us in. What may follow it stays in the socket. */
async function acceptance(socket: tls.TLSSocket, names: PeerNames): Promise<void> {
  const byte = await firstByte(socket).catch((error) => {
    throw refusedByServer(names, error);
  });
  if (byte === null) throw refusedByServer(names);
  if (byte !== ACCEPTED)
    throw cannotConnect('protocol', names.peer, `the first byte was ${byte}, libvirt sends ${ACCEPTED}`);
}

/** @returns null when the other side has ended, or the socket was destroyed. */
function firstByte(socket: tls.TLSSocket): Promise<number | null> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  const look = () => {
    const chunk: Buffer | null = socket.read(1);
    if (chunk !== null) resolve(chunk[0] ?? null);
  };
  const gone = () => resolve(null);
  socket.on('readable', look).once('end', gone).once('close', gone).once('error', reject);
  return promise.finally(() => {
    socket.off('readable', look).off('end', gone).off('close', gone).off('error', reject);
  });
}
