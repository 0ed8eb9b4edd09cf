/**
 * A relay on loopback between agents and their gateway: what passes it can be looked at, or held up.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline, type Transform } from 'node:stream';

export interface RelayParts {
  /** Where it leads, ws:// or wss:// */
  url: string;
  /** What stands in the way, one for each connection and direction. */
  up(): Transform;
  down(): Transform;
}

export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #scheme: string;

  private constructor(server: Server, scheme: string) {
    this.#server = server;
    this.#scheme = scheme;
  }

  static async listen({ url, up, down }: RelayParts): Promise<Relay> {
    const { hostname, port, protocol } = new URL(url);
    const server = createServer({ noDelay: true }).listen(0, '127.0.0.1');
    const relay = new Relay(server, protocol);
    server.on('connection', (near) => {
      const far = connect({ host: hostname, port: Number(port), noDelay: true });
      relay.#hold(near);
      relay.#hold(far);
      // A connection that breaks on one side breaks on the other: that is all there is to say of it.
      pipeline(near, up(), far, () => near.destroy());
      pipeline(far, down(), near, () => far.destroy());
    });
    await once(server, 'listening');
    return relay;
  }

  /** Where agents connect to. */
  get url(): string {
    return `${this.#scheme}//127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
  }
}
