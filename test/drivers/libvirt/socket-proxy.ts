/**
 * A unix socket that passes everything on to another one, until it is cut: so a test can take libvirt away from one
 * client, and from nobody else.
 */
import { rm } from 'node:fs/promises';
import net from 'node:net';

export class SocketProxy {
  readonly path: string;
  readonly #targetPath: string;
  readonly #sockets = new Set<net.Socket>();
  #server: net.Server | null = null;

  constructor(path: string, targetPath: string) {
    this.path = path;
    this.#targetPath = targetPath;
  }

  async open(): Promise<void> {
    const server = net.createServer((client) => this.#join(client));
    this.#server = server;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(this.path, resolve);
    await promise;
  }

  /** Ends all connections, and refuses new ones until `open` is called again. */
  async cut(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server === null) resolve();
      else this.#server.close(() => resolve());
    });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    this.#server = null;
    await rm(this.path, { force: true });
  }

  #join(client: net.Socket): void {
    const target = net.connect(this.#targetPath);
    for (const socket of [client, target]) {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined); // the close that follows ends the other side
    }
    client.on('close', () => target.destroy());
    target.on('close', () => client.destroy());
    client.pipe(target);
    target.pipe(client);
  }
}
