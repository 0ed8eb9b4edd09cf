/**
 * Events as the daemon of one connection has them: what it was asked to send, and whose its messages are.
 *
 * A connection that is made anew gets a new one of these: numbers of registrations mean nothing to another daemon.
 */
import { virErrorDomain, virErrorLevel, virErrorNumber } from '../constants.gen.ts';
import { type ErrorReply, LibvirtError, LibvirtTransportError, LibvirtUnsupportedError } from '../errors.ts';
import type { Procedures } from '../protocol/types.gen.ts';
import { EarlyMessages } from './early-messages.ts';
import type { Registration } from './registration.ts';
import type { Subscription } from './subscription.ts';

/** Calls the daemon, without a limit of time. */
export type Call = (name: string, args: unknown) => Promise<unknown>;

export class DaemonSide {
  readonly #call: Call;
  readonly #onDropped: (message: string) => void;
  /** Registrations by message and number: drivers number theirs independently of each other. */
  readonly #owners = new Map<string, Registration>();
  readonly #early = new EarlyMessages();
  readonly #features = new Map<number, Promise<boolean>>();

  /** @param onDropped Called when messages have been dropped that came before the reply to their registration. */
  constructor(call: Call, onDropped: (message: string) => void) {
    this.#call = call;
    this.#onDropped = onDropped;
  }

  /**
   * Asks for events; those that come before the reply are delivered as well.
   *
   * @returns The daemon's number for it; null where there can be only one.
   * @throws {LibvirtUnsupportedError} The daemon does not have these events.
   */
  async register(registration: Registration): Promise<number | null> {
    const { subscription } = registration;
    const { message } = subscription;
    await this.#requireFeature(subscription);
    this.#early.await(message);
    try {
      const callback = callbackIn(await this.#ask(subscription));
      this.#owners.set(addressOf(message, callback), registration);
      for (const body of this.#early.take(message, callback)) registration.deliver(body);
      return callback;
    } finally {
      if (this.#early.settle(message) > 0) this.#onDropped(message);
    }
  }

  /** Asks for no more. Without a connection there is no registration either. @throws {LibvirtError} It refuses. */
  async deregister({ subscription }: Registration, callback: number | null): Promise<void> {
    const args = callback === null ? undefined : { callbackID: callback };
    await this.#call(subscription.deregister, args).catch((error: unknown) => {
      if (!(error instanceof LibvirtTransportError) || error.kind === 'limit') throw error;
    });
    this.#owners.delete(addressOf(subscription.message, callback));
  }

  /** Hands a message to its registration. One that nobody asked for any more is dropped. */
  dispatch(message: string, body: unknown): void {
    const callback = callbackIn(body);
    const owner = this.#owners.get(addressOf(message, callback));
    if (owner !== undefined) owner.deliver(body);
    else this.#early.keep(message, callback, body);
  }

  async #ask(subscription: Subscription): Promise<unknown> {
    try {
      return await this.#call(subscription.register, subscription.args);
    } catch (error) {
      if (!(error instanceof LibvirtError) || !UNKNOWN_TO_DAEMON.test(error.message)) throw error;
      throw unsupported(subscription, error, subscription.since ?? subscription.feature.since);
    }
  }

  async #requireFeature(subscription: Subscription): Promise<void> {
    const { number, since } = subscription.feature;
    if (await (this.#features.get(number) ?? this.#askFeature(number))) return;
    const message = `feature ${number} is missing`;
    throw unsupported(subscription, { ...NO_SUPPORT, message }, since);
  }

  #askFeature(feature: number): Promise<boolean> {
    const answer = this.#call('connectSupportsFeature', { feature }).then((reply) => {
      return (reply as Procedures['connectSupportsFeature']['reply']).supported !== 0;
    });
    this.#features.set(feature, answer);
    answer.catch(() => this.#features.delete(feature)); // the next one asks again
    return answer;
  }
}

/** What the client library says when a function is missing. */
const NO_SUPPORT = {
  code: virErrorNumber.VIR_ERR_NO_SUPPORT,
  domain: virErrorDomain.VIR_FROM_RPC,
  level: virErrorLevel.VIR_ERR_ERROR,
};

/** Raised by the daemon for a procedure or an event that is newer than it. @see remote_daemon_dispatch.c */
const UNKNOWN_TO_DAEMON = /unknown procedure|unsupported (.+ )?event ID/;

function unsupported(
  { family, kind, register }: Subscription,
  reply: ErrorReply,
  since: string,
): LibvirtError {
  const message = `events '${kind}' of ${family} are not supported by this daemon, needs libvirt ${since} (${reply.message})`;
  const { code, domain, level } = reply;
  return new LibvirtUnsupportedError({ code, domain, level, message }, register, since);
}

/** The registration's number in a reply or a message; null where there is none. */
function callbackIn(body: unknown): number | null {
  return (body as { callbackID?: number } | undefined)?.callbackID ?? null;
}

function addressOf(message: string, callback: number | null): string {
  return `${message} ${callback}`;
}
