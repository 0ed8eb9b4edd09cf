/**
 * Holds TLS connections before their handshake while there are more than can be let in: a handshake takes the gateway as
 * long as all the rest of a link, and is lost where the agent gives up before its turn.
 *
 *   accepted ──(first bytes)──▶ in turn ──▶ handshake: so many at a time ──(done, gone, or a while)──▶ the next
 *                          └──▶ held, while those are under way or others wait behind the door
 *
 * The newest goes first: who has waited longest is the nearest to giving up, and a caller of the API who comes among ten
 * thousand agents is served at once. Who gives up while he is held costs no handshake at all. Nobody has proven anything
 * here, so what a stranger can take is bounded: silence takes no turn, and a handshake that is begun and left takes one for
 * SLOT_MS. To keep all of them taken he has to begin 800 a second, and that many take the gateway's time in any case.
 */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../clock.ts';

/** Handshakes at a time: with 200 ms from one end to the other that is 1,000 a second. */
const WINDOW = 200;
/** Milliseconds after which a handshake keeps nobody out any more. */
const SLOT_MS = 250;
/** Milliseconds for the first bytes: an agent sends them at once. */
const SILENCE_LIMIT_MS = 10_000;
/** Milliseconds that anybody is held; whoever is there then has gone unheard. */
const HELD_LIMIT_MS = 120_000;
/** Bytes before the turn; a ClientHello has some 300, with post-quantum keys 1,800. */
const FIRST_BYTES_LIMIT = 16_384;

/** By which a connection ends before its turn. */
const ENDS = ['close', 'error', 'timeout'];

interface Held {
  socket: Socket;
  begin(): void;
}

export interface HandshakeGateParts {
  clock: Pick<Clock, 'after'>;
  /** Who has come through waits for what comes next: no more are to come. @default never */
  isBacklogged?: () => boolean;
  /** Handshakes at a time. */
  window?: number;
}

export class HandshakeGate {
  readonly #clock: HandshakeGateParts['clock'];
  readonly #isBacklogged: () => boolean;
  readonly #window: number;
  /** The last one is next; those who have gone are left out when they are come to. */
  #held: Held[] = [];
  /** Of `held`, those who are still there. */
  readonly #present = new Set<Held>();
  /** Connections before their turn, silent or held. */
  readonly #unbegun = new Set<Socket>();
  /** Handshakes under way, by the far end; each is ended by what is kept here. */
  readonly #running = new Map<string, () => void>();

  constructor({ clock, isBacklogged = () => false, window = WINDOW }: HandshakeGateParts) {
    this.#clock = clock;
    this.#isBacklogged = isBacklogged;
    this.#window = window;
  }

  /** How many are held. */
  get held(): number {
    return this.#present.size;
  }

  /** Comes between the server and the connections that it accepts from now on. */
  guard(server: Server): void {
    const handlers = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      this.#take(socket, () => {
        for (const handle of handlers) handle.call(server, socket);
      });
    });
    server.on('secureConnection', (socket: TLSSocket) => this.#running.get(farEndOf(socket))?.());
  }

  /** Lets those go on for whom there is room now. */
  pump(): void {
    while (this.#present.size > 0 && this.#running.size < this.#window && !this.#isBacklogged()) {
      const next = this.#held.pop();
      if (next !== undefined && this.#present.delete(next)) this.#run(next);
    }
  }

  /** Cuts off all who have not had their turn. */
  close(): void {
    for (const socket of this.#unbegun) socket.destroy();
  }

  /** Reads what comes first, and puts it back for the handshake. */
  #take(socket: Socket, handle: () => void): void {
    const first: Buffer[] = [];
    const held: Held = {
      socket,
      begin: () => {
        for (const event of ENDS) socket.off(event, leave);
        socket.off('data', listen).setTimeout(0).pause().unshift(Buffer.concat(first));
        this.#unbegun.delete(socket);
        handle();
      },
    };
    const listen = (bytes: Buffer): void => {
      first.push(bytes);
      if (socket.bytesRead > FIRST_BYTES_LIMIT) leave();
      else if (first.length === 1) this.#hold(held);
    };
    const leave = (): void => {
      this.#forget(held);
      this.#unbegun.delete(socket);
      socket.destroy();
    };
    this.#unbegun.add(socket);
    for (const event of ENDS) socket.on(event, leave);
    socket.on('data', listen).setTimeout(SILENCE_LIMIT_MS);
  }

  #hold(held: Held): void {
    held.socket.setTimeout(HELD_LIMIT_MS);
    this.#held.push(held);
    this.#present.add(held);
    this.pump();
  }

  #forget(held: Held): void {
    if (!this.#present.delete(held)) return;
    if (this.#held.length > 2 * this.#present.size + this.#window) {
      this.#held = this.#held.filter((one) => this.#present.has(one));
    }
  }

  #run({ socket, begin }: Held): void {
    const farEnd = farEndOf(socket);
    const end = (): void => {
      cancel();
      socket.off('close', end);
      this.#running.delete(farEnd);
      this.pump();
    };
    const cancel = this.#clock.after(SLOT_MS, end);
    this.#running.set(farEnd, end);
    socket.once('close', end);
    begin();
  }
}

function farEndOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
