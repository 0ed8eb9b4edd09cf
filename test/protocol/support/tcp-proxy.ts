/**
 * Stands between two ends of TCP, and can do what a broken cable does: pass nothing on, and say nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpProxy {
  readonly #server: Server;
  readonly #pairs: [Socket, Socket][] = [];
  #isBroken = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    server.on('connection', (near) => this.#join(near, connect({ host: '127.0.0.1', port })));
  }

  /** @param port Of the far end, on this machine. */
  static async listen(port: number): Promise<TcpProxy> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(server, port);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on nothing passes, and nobody is told. */
  cutCable(): void {
    this.#isBroken = true;
  }

  async close(): Promise<void> {
    for (const socket of this.#pairs.flat()) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near: Socket, far: Socket): void {
    this.#pairs.push([near, far]);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('error', () => {}); // the close that follows says it all
      from.on('data', (data) => {
        if (!this.#isBroken) to.write(data);
      });
      from.on('close', () => {
        if (!this.#isBroken) to.destroy();
      });
    }
  }
}
