/**
 * One registration with the daemon, and who listens.
 *
 * Theory of operation: the listeners say what is wanted, and the daemon's side follows, one call at a time.
 *
 *   absent ──ensure──► registering ──its number──► registered ──release──► releasing
 *     ▲                     │                         │   ▲                  │   │
 *     ├──────refused────────┘                         │   └─────refused──────┘   │
 *     ├──────connection lost──────────────────────────┘                          │
 *     └──────done────────────────────────────────────────────────────────────────┘
 *
 * A call is never given up, since the daemon would go on with it: who waits for it may stop waiting. When the answer
 * comes and nobody listens any more, the registration is taken back.
 */
import { LibvirtTransportError } from '../errors.ts';
import { guarded } from '../guarded.ts';
import type { DaemonSide } from './daemon-side.ts';
import { type AnyEvent, eventOf } from './families.ts';
import type { Subscription } from './subscription.ts';

export type AnyListener = (event: AnyEvent) => void;

type State =
  | { is: 'absent' }
  | { is: 'registering'; done: Promise<void> }
  | { is: 'registered'; callback: number | null }
  | { is: 'releasing'; done: Promise<void> };

export class Registration {
  readonly subscription: Subscription;
  readonly #listeners = new Set<AnyListener>();
  readonly #onUnused: () => void;
  #daemon: DaemonSide;
  #state: State = { is: 'absent' };

  /** @param onUnused Called when nobody listens and the daemon has nothing of it. */
  constructor(subscription: Subscription, daemon: DaemonSide, onUnused: () => void) {
    this.subscription = subscription;
    this.#daemon = daemon;
    this.#onUnused = onUnused;
  }

  get isWanted(): boolean {
    return this.#listeners.size > 0;
  }

  add(listener: AnyListener): void {
    this.#listeners.add(listener);
  }

  /** @returns Whether it was there. */
  remove(listener: AnyListener): boolean {
    if (!this.#listeners.delete(listener)) return false;
    this.#tellUnused();
    return true;
  }

  /**
   * Waits until the daemon sends the events.
   *
   * @throws {LibvirtError} It refuses. @throws {LibvirtTransportError} The connection ended, or limit.
   */
  ensure(): Promise<void> {
    const state = this.#state;
    switch (state.is) {
      case 'absent':
        return this.#register();
      case 'registering':
        return state.done;
      case 'registered':
        return Promise.resolve();
      case 'releasing':
        return state.done.then(
          () => this.#ensureIfWanted(),
          () => this.#ensureIfWanted(), // it is still there
        );
    }
  }

  /** Whoever waited for a release may have gone meanwhile, and another registration may have taken this one's place. */
  #ensureIfWanted(): Promise<void> {
    return this.isWanted ? this.ensure() : Promise.resolve();
  }

  /**
   * Takes it back, unless somebody listens.
   *
   * @throws {LibvirtError} The daemon refuses: it goes on to send the events, which are dropped.
   */
  release(): Promise<void> {
    const state = this.#state;
    if (this.isWanted || state.is === 'absent') return Promise.resolve();
    switch (state.is) {
      case 'registering':
        return state.done.then(
          () => this.release(),
          () => undefined, // there is nothing to take back; whoever wanted it has been told
        );
      case 'registered':
        return this.#deregister(state.callback);
      case 'releasing':
        return state.done;
    }
  }

  /** The connection is gone, and with it the daemon's registration; `daemon` is the next one. */
  moveTo(daemon: DaemonSide): void {
    this.#daemon = daemon;
    this.#become(daemon, { is: 'absent' });
  }

  /** Hands a message to the listeners. */
  deliver(body: unknown): void {
    if (!this.isWanted) return;
    const { family, kind } = this.subscription;
    const event = eventOf(family, kind, body);
    for (const listener of [...this.#listeners])
      if (this.#listeners.has(listener)) guarded(() => listener(event));
  }

  #register(): Promise<void> {
    const daemon = this.#daemon;
    const done = daemon.register(this).then(
      (callback) => this.#daemonOnRegistered(daemon, callback),
      (error: unknown) => {
        this.#become(daemon, { is: 'absent' });
        throw error;
      },
    );
    this.#state = { is: 'registering', done };
    return done;
  }

  #deregister(callback: number | null): Promise<void> {
    const daemon = this.#daemon;
    const done = daemon.deregister(this, callback).then(
      () => this.#become(daemon, { is: 'absent' }),
      (error: unknown) => {
        this.#become(daemon, { is: 'registered', callback });
        throw error;
      },
    );
    this.#state = { is: 'releasing', done };
    return done;
  }

  /** What an earlier connection's daemon says has no effect. */
  #become(daemon: DaemonSide, state: State): void {
    if (daemon !== this.#daemon) return;
    this.#state = state;
    this.#tellUnused();
  }

  #tellUnused(): void {
    if (!this.isWanted && this.#state.is === 'absent') this.#onUnused();
  }

  #daemonOnRegistered(daemon: DaemonSide, callback: number | null): void {
    if (daemon !== this.#daemon) throw new LibvirtTransportError('closed', 'the connection was lost');
    this.#become(daemon, { is: 'registered', callback });
    this.release().catch(() => {}); // refused: it is kept for the next who listens
  }
}
