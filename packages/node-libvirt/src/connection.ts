/**
 * A connection to a daemon: libvirt's functions on a host, with plain values in and out.
 *
 * A Connection holds no state of domains. How it stays connected, and which calls share a socket, is src/pool.ts.
 */
import { as, type CallOptions, type RoleCallOptions } from './api/caller.ts';
import { ConnectionMethods } from './api/connection.gen.ts';
import { Objects } from './api/objects.gen.ts';
import type { Domain } from './domain.ts';
import { checkedLimits, checkedOptions, checkedRole } from './limits.ts';
import { EventQueue, type QueueOptions } from './events/event-queue.ts';
import type { Gap, StopListening } from './events/events.ts';
import type { AnyEvent, EventFamily, EventFilter, EventKind, LibvirtEvent } from './events/families.ts';
import { subscriptionOf } from './events/subscription.ts';
import type { ConnectionState, Pool, Role, StateListener } from './pool.ts';
import type { ArgsOf, ProcedureName, ReplyOf } from './protocol/procedures.ts';
import type { NonnullDomain } from './protocol/types.gen.ts';
import type { ChannelCallOptions } from './rpc/channel.ts';
import type { LibvirtStream } from './rpc/stream.ts';
import type { Session } from './session.ts';
import type { TypedParams } from './typed-params.ts';
import type { TypedParamsShape } from './xdr/reader.ts';

export interface DomainStats {
  domain: Domain;
  /** For example 'state.state', 'cpu.time', 'block.0.rd.bytes'. @see virConnectGetAllDomainStats, libvirt-domain.h */
  stats: TypedParams;
}

export class Connection extends ConnectionMethods implements AsyncDisposable {
  /** Makes a Domain, a Network and so on of what an event or a stored record names. */
  override readonly objects: Objects = new Objects(this);
  /** As given to `connect`. */
  readonly uri: string;
  readonly #pool: Pool;
  readonly #timeoutsMs: Readonly<Record<Role, number>>;

  /** @internal Use `connect`. */
  constructor(pool: Pool, timeoutsMs: Readonly<Record<Role, number>>, uri: string) {
    super();
    this.uri = uri;
    this.#pool = pool;
    this.#timeoutsMs = timeoutsMs;
  }

  get state(): ConnectionState {
    return this.#pool.state;
  }

  /** Calls on their way and waiting, by role, for metrics and tests. */
  get load(): Pool['load'] {
    return this.#pool.load;
  }

  /** @returns Takes the listener back. */
  onStateChange(listener: StateListener): () => void {
    return this.#pool.onStateChange(listener);
  }

  /**
   * Calls a procedure of the protocol.
   *
   * @param name For example 'domainGetInfo' for REMOTE_PROC_DOMAIN_GET_INFO.
   * @param args Fields as in remote_protocol.x; `undefined` for a procedure without arguments.
   * @throws {LibvirtError} The daemon refuses. @throws {LibvirtUsageError} Arguments that cannot be sent.
   * @throws {LibvirtTransportError} No reply: timeout, aborted, closed, keepalive, protocol, limit, descriptors.
   */
  override async call<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options: RoleCallOptions = {},
  ): Promise<ReplyOf<P>> {
    return (await this.#call(name, args, options, 'list')) as ReplyOf<P>;
  }

  /**
   * Calls a procedure that opens a stream.
   *
   * The options' limits cover the opening, not the stream. Destroying the stream aborts it; `end()` finishes it.
   *
   * @throws As `call`.
   */
  override async openStream<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options: CallOptions = {},
  ): Promise<{ reply: ReplyOf<P>; stream: LibvirtStream }> {
    const { reply, stream } = await this.#pool.openStream(name, args, this.#limits(options, 'long'));
    return { reply: reply as ReplyOf<P>, stream };
  }

  /**
   * Listens to events. When the promise is fulfilled, every later event is delivered, and after a reconnection again.
   *
   * A call that the daemon answers too late is not lost: its registration is taken back as soon as the answer comes.
   *
   * @param family What the events are about. @param kind For example 'lifecycle'.
   * @param options The thing that is listened to, for example `{ domain }`; the daemon leaves out all others. `signal`
   *   ends the wait for the daemon, and later the listening. For 'qemuMonitor' also `event` and `flags`.
   * @returns Takes the listener back, at once; the promise is for the daemon's confirmation.
   * @throws {LibvirtUsageError} No such family, kind or option.
   * @throws {LibvirtUnsupportedError} The daemon or its driver does not have these events.
   * @throws {LibvirtTransportError} No connection, timeout, aborted, or limit.
   */
  async onEvent<F extends EventFamily, K extends EventKind<F>>(
    family: F,
    kind: K,
    listener: (event: LibvirtEvent<F, K>) => void,
    options?: EventFilter<F> & CallOptions,
  ): Promise<StopListening> {
    const subscription = subscriptionOf(family, kind, checkedOptions(options ?? {}));
    this.#pool.checkConnected('onEvent');
    const limits = this.#limits(options ?? {}, 'control');
    return this.#pool.events.add(subscription, listener as (event: AnyEvent) => void, limits);
  }

  /**
   * Events as an async iterable, with gaps and overflows in their places. When the promise is fulfilled, every later
   * event is in it. Breaking out of the loop takes the listener back; so do `signal` and the end of the connection, and
   * then the iteration ends with what has come before.
   *
   * @param options As for `onEvent`. @param options.bufferMax Events that may wait. @default 1_024
   * @throws As `onEvent`.
   */
  async events<F extends EventFamily, K extends EventKind<F>>(
    family: F,
    kind: K,
    options?: EventFilter<F> & QueueOptions,
  ): Promise<EventQueue<F, K>> {
    const subscription = subscriptionOf(family, kind, checkedOptions(options ?? {}));
    this.#pool.checkConnected('events');
    const limits = { ...this.#limits(options ?? {}, 'control'), bufferMax: options?.bufferMax };
    return EventQueue.open<F, K>(this.#pool.events, subscription, limits, this.#pool.closed);
  }

  /**
   * @internal Opens a socket of its own, for what the daemon ties to one client. The options' limits cover the opening.
   *
   * @param name What it is for, in errors. @throws {LibvirtTransportError} As `connect`, or limit.
   */
  async openSession(name: string, options: CallOptions = {}): Promise<Session> {
    return this.#pool.openSession(name, this.#limits(options, 'long'));
  }

  /** Told when events may have been missed, as after each reconnection. @returns Takes the listener back. */
  onGap(listener: (gap: Gap) => void): () => void {
    return this.#pool.events.onGap(listener);
  }

  /**
   * Statistics of many domains in one call. virConnectGetAllDomainStats, since libvirt 1.2.8.
   *
   * @param stats virDomainStatsTypes; 0 gives all.
   * @param flags virConnectGetAllDomainStatsFlags; NOWAIT leaves out what a busy domain cannot answer now.
   */
  async getAllDomainStats(stats = 0, flags = 0, options?: RoleCallOptions): Promise<DomainStats[]> {
    return this.domainListGetStats([], stats, flags, options);
  }

  /**
   * Statistics of these domains in one call. virDomainListGetStats, since libvirt 1.2.8.
   *
   * @param domains An empty list means all domains.
   * @param stats @param flags As `getAllDomainStats`.
   */
  async domainListGetStats(
    domains: readonly NonnullDomain[],
    stats = 0,
    flags = 0,
    options?: RoleCallOptions,
  ): Promise<DomainStats[]> {
    const args = { doms: domains, stats, flags };
    const reply = await this.#call('connectGetAllDomainStats', args, as('long', options), 'object');
    const { retStats } = reply as { retStats: { dom: NonnullDomain; params: TypedParams }[] };
    return retStats.map(({ dom, params }) => ({ domain: this.objects.domain(dom), stats: params }));
  }

  /** Ends everything: pending calls fail with kind 'closed', streams are destroyed, nothing reconnects. */
  async close(): Promise<void> {
    this.#pool.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #call(name: string, args: unknown, options: RoleCallOptions, shape: TypedParamsShape): Promise<unknown> {
    const role = checkedRole(checkedOptions(options).role ?? 'short');
    const limits: ChannelCallOptions = this.#limits(options, role);
    limits.typedParams = shape;
    return this.#pool.call(name, args, role, limits);
  }

  #limits(options: CallOptions, role: Role): CallOptions {
    return checkedLimits(options, this.#timeoutsMs[role]);
  }
}
