/**
 * Domain events of one connection: who listens, and what is registered with the daemon.
 *
 * Theory of operation: a kind is registered with the daemon once, for all domains, when its first listener comes, and
 * taken back when its last one goes. A message finds its listeners by its kind and not by the callback's number: since
 * there is one registration for a kind, that is the same, and a message that overtakes the reply to its own
 * registration needs no special care.
 *
 * Events are lost while there is no connection. After a reconnection everything is registered again, and then a gap is
 * told to all: whoever keeps state from events must look at the domains anew.
 */
import { LibvirtError, LibvirtTransportError } from './errors.ts';
import { type DomainEvent, type DomainEventKind, eventNumber, toDomainEvent } from './event-kinds.ts';
import { guarded } from './guarded.ts';
import type { Procedures } from './protocol/types.gen.ts';

export type DomainEventListener<K extends DomainEventKind> = (event: DomainEvent<K>) => void;

/** Told after a reconnection. */
export interface Gap {
  /** What had ended the connection. */
  cause: LibvirtTransportError;
  /** Kinds that the daemon no longer offers; their listeners will hear nothing. */
  lostKinds: DomainEventKind[];
}

/** Listeners of one connection. A program needs a few; thousands mean that they are not taken back. */
export const LISTENERS_MAX = 1_000;

type Call = (name: string, args: unknown) => Promise<unknown>;
type AnyListener = (event: DomainEvent) => void;

interface Registration {
  listeners: Set<AnyListener>;
  /** The daemon's number for it. */
  callback: Promise<number>;
}

export class Events {
  readonly #call: Call;
  readonly #registrations = new Map<DomainEventKind, Registration>();
  /** Kinds that are being taken back: a new registration waits for that, or events would come twice. */
  readonly #releases = new Map<DomainEventKind, Promise<unknown>>();
  readonly #gapListeners = new Set<(gap: Gap) => void>();

  /** @param call Calls on the connection that is to get the events. */
  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Adds a listener; when the promise is fulfilled, every later event is delivered.
   *
   * @returns Takes the listener back. May be called more than once.
   * @throws {LibvirtUnsupportedError} The daemon does not have this kind.
   * @throws {LibvirtTransportError} No connection, or limit.
   */
  async add<K extends DomainEventKind>(
    kind: K,
    listener: DomainEventListener<K>,
  ): Promise<() => Promise<void>> {
    this.#checkLimit();
    const own = ((event: DomainEvent<K>) => listener(event)) as AnyListener;
    const registration = this.#registrations.get(kind) ?? this.#newRegistration(kind);
    registration.listeners.add(own);
    try {
      await registration.callback;
    } catch (error) {
      this.#forget(kind, registration);
      throw error;
    }
    return () => this.#remove(kind, registration, own);
  }

  /** @returns Takes the listener back. */
  onGap(listener: (gap: Gap) => void): () => void {
    this.#gapListeners.add(listener);
    return () => void this.#gapListeners.delete(listener);
  }

  /** Hands a message to its listeners. */
  dispatch(messageName: string, body: unknown): void {
    const event = toDomainEvent(messageName, body);
    if (event === null) return;
    for (const listener of this.#registrations.get(event.kind)?.listeners ?? [])
      guarded(() => listener(event));
  }

  /**
   * Registers everything again on a new connection.
   *
   * @returns The kinds that the daemon refused.
   * @throws {LibvirtTransportError} The new connection failed as well.
   */
  async registerAgain(): Promise<DomainEventKind[]> {
    const lost: DomainEventKind[] = [];
    for (const [kind, registration] of this.#registrations) {
      registration.callback = this.#register(kind);
      await registration.callback.catch((error: unknown) => {
        if (!(error instanceof LibvirtError)) throw error;
        lost.push(kind);
      });
    }
    return lost;
  }

  tellGap(gap: Gap): void {
    for (const listener of this.#gapListeners) guarded(() => listener(gap));
  }

  #newRegistration(kind: DomainEventKind): Registration {
    const registration = { listeners: new Set<AnyListener>(), callback: this.#register(kind) };
    this.#registrations.set(kind, registration);
    return registration;
  }

  async #register(kind: DomainEventKind): Promise<number> {
    await this.#releases.get(kind);
    const args = { eventID: eventNumber(kind), dom: null };
    const reply = await this.#call('connectDomainEventCallbackRegisterAny', args);
    return (reply as Procedures['connectDomainEventCallbackRegisterAny']['reply']).callbackID;
  }

  async #remove(kind: DomainEventKind, registration: Registration, listener: AnyListener): Promise<void> {
    if (!registration.listeners.delete(listener) || registration.listeners.size > 0) return;
    this.#forget(kind, registration);
    const release = this.#release(registration);
    const settled = release.then(
      () => this.#releases.delete(kind),
      () => this.#releases.delete(kind),
    );
    this.#releases.set(kind, settled);
    await release;
  }

  async #release(registration: Registration): Promise<void> {
    try {
      await this.#call('connectDomainEventCallbackDeregisterAny', {
        callbackID: await registration.callback,
      });
    } catch (error) {
      if (!(error instanceof LibvirtTransportError)) throw error; // without a connection there is no registration either
    }
  }

  #forget(kind: DomainEventKind, registration: Registration): void {
    if (this.#registrations.get(kind) === registration) this.#registrations.delete(kind);
  }

  #checkLimit(): void {
    let count = 0;
    for (const { listeners } of this.#registrations.values()) count += listeners.size;
    if (count >= LISTENERS_MAX)
      throw new LibvirtTransportError('limit', `${LISTENERS_MAX} event listeners are there already`);
  }
}
