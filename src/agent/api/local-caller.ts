/**
 * Who calls on a local socket, for the audit log: the user that the kernel names for the connection.
 *
 * Asked once a connection, and only where it is written down. Where the host can't tell, the entry has no user, and the
 * call goes on: that the caller may use the socket is proven by its owner, group and mode alone, and an operator
 * has to be able to mend a host that starts no processes any more.
 */
import type { Socket } from 'node:net';
import type { Peers } from '../../drivers/contracts/peers.ts';
import type { Principal, Way } from '../../model/audit.ts';
import { AgentError } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import type { CallerIdentity } from './dispatcher.ts';

export interface LocalCallersParts {
  via: Way;
  peers: Peers | null;
  log: Log;
}

export class LocalCallers {
  readonly #parts: LocalCallersParts;
  readonly #known = new WeakMap<Socket, Promise<Principal>>();

  constructor(parts: LocalCallersParts) {
    this.#parts = parts;
  }

  identityOf(socket: Socket): CallerIdentity {
    return { via: this.#parts.via, who: () => this.#who(socket) };
  }

  #who(socket: Socket): Promise<Principal> {
    const known = this.#known.get(socket) ?? this.#ask(socket);
    this.#known.set(socket, known);
    return known;
  }

  async #ask(socket: Socket): Promise<Principal> {
    const { via, peers, log } = this.#parts;
    const unknown = { via, name: null, uid: null, pid: null };
    if (peers === null) return unknown;
    try {
      const { user, uid, pid } = await peers.credentialsOf(descriptorOf(socket));
      return { via, name: user, uid, pid };
    } catch (error) {
      log.warn({ error, via }, 'it is not known which user has called on the local socket');
      return unknown;
    }
  }
}

/** Node has no public name for it; without it the user is not known, which is told. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } | null };
  if (typeof handle?.fd === 'number' && handle.fd >= 0) return handle.fd;
  throw new AgentError('UNAVAILABLE', 'The connection has ended, or has no descriptor');
}
