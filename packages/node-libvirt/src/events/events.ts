/**
 * Events of one connection: who listens to what, and what is told when some may have been missed.
 *
 *   dispatch ──► DaemonSide: whose message it is ──► Registration ──► listeners
 *
 * Those who want the same share one Registration (registration.ts). A DaemonSide (daemon-side.ts) is what is known of the
 * daemon of the connection that there is now.
 *
 * Events are lost while there is no connection. After a reconnection everything is registered again, and then a gap is
 * told to all: whoever keeps state from events must look at the things anew.
 */
import { LibvirtError, LibvirtTransportError } from '../errors.ts';
import { checkListener, guarded } from '../guarded.ts';
import { withinLimits } from '../limits.ts';
import type { CallOptions } from '../rpc/calls.ts';
import { type Call, DaemonSide } from './daemon-side.ts';
import type { EventFamily, EventFilter, EventKind } from './families.ts';
import { type AnyListener, Registration } from './registration.ts';
import type { Subscription } from './subscription.ts';

/** Events that the daemon refuses to send on the new connection. Their listeners hear nothing until it does. */
export type LostEvents = {
  [F in EventFamily]: {
    family: F;
    kind: EventKind<F>;
    /** The thing that was listened to; empty for all. */
    filter: EventFilter<F>;
    /** Why: a LibvirtUnsupportedError, or for example a `codeName` of VIR_ERR_NO_DOMAIN. */
    error: LibvirtError;
  };
}[EventFamily];

/** Told when events may have been missed. */
export interface Gap {
  /** What had ended the connection; or kind 'limit', when events before the reply to their registration were too many. */
  cause: LibvirtTransportError;
  /** What is not heard any more. It is tried again after each reconnection. */
  lost: LostEvents[];
}

/** Takes a listener back; see `Connection.onEvent`. */
export type StopListening = () => Promise<void>;

/** Listeners of one connection. A program needs a few; thousands mean that they are not taken back. */
export const LISTENERS_MAX = 1_000;

export class Events {
  readonly #call: Call;
  readonly #timeoutMs: number;
  /** By the key of their subscription. */
  readonly #registrations = new Map<string, Registration>();
  readonly #gapListeners = new Set<(gap: Gap) => void>();
  #daemon: DaemonSide;
  #listeners = 0;

  /**
   * @param call Calls on the connection that is to get the events.
   * @param timeoutMs How long the daemon may take to register an event again.
   */
  constructor(call: Call, timeoutMs: number) {
    this.#call = call;
    this.#timeoutMs = timeoutMs;
    this.#daemon = this.#newDaemonSide();
  }

  /**
   * Adds a listener; when the promise is fulfilled, every later event is delivered.
   *
   * @param limits Of the registration; `signal` takes the listener back later, too.
   * @returns Takes the listener back.
   */
  async add(subscription: Subscription, listener: AnyListener, limits: CallOptions): Promise<StopListening> {
    this.#check(listener, limits.signal);
    const registration = this.#registrations.get(subscription.key) ?? this.#newRegistration(subscription);
    const own: AnyListener = (event) => listener(event);
    registration.add(own);
    this.#listeners++;
    try {
      await withinLimits(registration.ensure(), subscription.register, limits);
    } catch (error) {
      this.#remove(registration, own);
      throw error;
    }
    return this.#stopper(registration, own, limits);
  }

  /** How much there is to remember, for metrics and tests. */
  get load(): { listeners: number; gapListeners: number; registrations: number } {
    return {
      listeners: this.#listeners,
      gapListeners: this.#gapListeners.size,
      registrations: this.#registrations.size,
    };
  }

  /** @returns Takes the listener back. */
  onGap(listener: (gap: Gap) => void): () => void {
    checkListener(listener);
    this.#gapListeners.add(listener);
    return () => void this.#gapListeners.delete(listener);
  }

  /** Hands a message to its listeners. */
  dispatch(message: string, body: unknown): void {
    this.#daemon.dispatch(message, body);
  }

  /** The connection is gone. */
  disconnected(): void {
    this.#daemon = this.#newDaemonSide();
    for (const registration of [...this.#registrations.values()]) registration.moveTo(this.#daemon);
  }

  /**
   * Registers everything again on a new connection.
   *
   * @returns What the daemon refused.
   * @throws {LibvirtTransportError} The new connection failed as well.
   */
  async registerAgain(): Promise<LostEvents[]> {
    const lost: LostEvents[] = [];
    for (const registration of [...this.#registrations.values()]) {
      if (!registration.isWanted) continue;
      const { family, kind, filter, register } = registration.subscription;
      await withinLimits(registration.ensure(), register, { timeoutMs: this.#timeoutMs }).catch(
        (error: unknown) => {
          if (!(error instanceof LibvirtError)) throw error;
          lost.push({ family, kind, filter, error } as LostEvents);
        },
      );
    }
    return lost;
  }

  tellGap(gap: Gap): void {
    for (const listener of this.#gapListeners) guarded(() => listener(gap));
  }

  #newRegistration(subscription: Subscription): Registration {
    const { key } = subscription;
    const registration = new Registration(subscription, this.#daemon, () => this.#registrations.delete(key));
    this.#registrations.set(key, registration);
    return registration;
  }

  #newDaemonSide(): DaemonSide {
    return new DaemonSide(this.#call, (message) => this.#daemonOnDropped(message));
  }

  #stopper(registration: Registration, own: AnyListener, { timeoutMs, signal }: CallOptions): StopListening {
    const stop = () => {
      signal?.removeEventListener('abort', onAbort);
      return this.#stop(registration, own, timeoutMs);
    };
    const onAbort = () => void stop().catch(() => {}); // nobody waits for it
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort);
    return stop;
  }

  async #stop(registration: Registration, own: AnyListener, timeoutMs: number | undefined): Promise<void> {
    this.#remove(registration, own);
    await withinLimits(registration.release(), registration.subscription.deregister, { timeoutMs });
  }

  #remove(registration: Registration, own: AnyListener): void {
    if (registration.remove(own)) this.#listeners--;
  }

  #check(listener: unknown, signal: AbortSignal | undefined): void {
    checkListener(listener);
    if (signal?.aborted)
      throw new LibvirtTransportError('aborted', 'listening to events: aborted', { cause: signal.reason });
    if (this.#listeners >= LISTENERS_MAX)
      throw new LibvirtTransportError('limit', `${LISTENERS_MAX} event listeners are there already`);
  }

  #daemonOnDropped(message: string): void {
    const text = `too many ${message} came before the reply to their registration`;
    this.tellGap({ cause: new LibvirtTransportError('limit', text), lost: [] });
  }
}
