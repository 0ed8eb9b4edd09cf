/**
 * Places of a server: so many connections at once, and one that has no request under way gives its place to the next.
 *
 * A caller who opens connections and says nothing, or sends a request that never gets whole, would else keep everyone
 * out until the server's timeout. Where every place has a request under way, the newest connection is dropped.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export function limitPlaces(server: Server, limit: number): void {
  /** Oldest first. */
  const idle = new Set<Socket>();
  let taken = 0;
  server.on('connection', (socket: Socket) => {
    if (taken >= limit) makeRoom(idle, socket);
    if (socket.destroyed) return;
    taken++;
    idle.add(socket);
    socket.once('close', () => {
      taken--;
      idle.delete(socket);
    });
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    idle.delete(socket);
    response.once('close', () => {
      if (!socket.destroyed) idle.add(socket);
    });
  });
}

function makeRoom(idle: Set<Socket>, newest: Socket): void {
  const [oldest = newest] = idle;
  idle.delete(oldest);
  oldest.destroy();
}
