/**
 * A connection to a daemon: libvirt's functions on a host, with plain values in and out.
 *
 * A Connection holds no state of domains. How it stays connected, and which calls share a socket, is src/pool.ts.
 */
import { Domain } from './domain.ts';
import { checkedTimeoutMs } from './limits.ts';
import type { DomainEventKind } from './event-kinds.ts';
import { EVENT_BUFFER_MAX, EventBuffer, type StreamedEvent } from './event-stream.ts';
import type { DomainEventListener, Gap } from './events.ts';
import type { ConnectionState, Pool, Role, StateListener } from './pool.ts';
import type { ArgsOf, ProcedureName, ReplyOf } from './protocol/procedures.ts';
import type { NonnullDomain } from './protocol/types.gen.ts';
import type { CallOptions } from './rpc/calls.ts';
import type { LibvirtStream } from './rpc/stream.ts';
import { type TypedValue, typedParamsToObject } from './typed-params.ts';

export interface RoleCallOptions extends CallOptions {
  /** @default 'short' */
  role?: Role;
}

export interface NodeInfo {
  model: string;
  memoryKib: number;
  cpus: number;
  mhz: number;
  numaNodes: number;
  socketsPerNode: number;
  coresPerSocket: number;
  threadsPerCore: number;
}

export interface DomainStats {
  domain: Domain;
  /** For example 'state.state', 'cpu.time', 'block.0.rd.bytes'. @see virConnectGetAllDomainStats, libvirt-domain.h */
  stats: Record<string, TypedValue>;
}

/** libvirt's constant for "give the list itself, not only its length". */
const NEED_RESULTS = 1;

export class Connection implements AsyncDisposable {
  readonly #pool: Pool;
  readonly #timeoutsMs: Readonly<Record<Role, number>>;

  /** @internal Use `connect`. */
  constructor(pool: Pool, timeoutsMs: Readonly<Record<Role, number>>) {
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
  async call<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options: RoleCallOptions = {},
  ): Promise<ReplyOf<P>> {
    const role = options.role ?? 'short';
    return (await this.#pool.call(name, args, role, this.#limits(options, role))) as ReplyOf<P>;
  }

  /**
   * Calls a procedure that opens a stream.
   *
   * The options' limits cover the opening, not the stream. Destroying the stream aborts it; `end()` finishes it.
   *
   * @throws As `call`.
   */
  async openStream<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options: CallOptions = {},
  ): Promise<{ reply: ReplyOf<P>; stream: LibvirtStream }> {
    const { reply, stream } = await this.#pool.openStream(name, args, this.#limits(options, 'long'));
    return { reply: reply as ReplyOf<P>, stream };
  }

  /**
   * Listens to domain events of one kind, of all domains.
   *
   * @returns Takes the listener back.
   * @throws {LibvirtUnsupportedError} The daemon does not have this kind.
   * @throws {LibvirtTransportError} No connection, or limit.
   */
  async domainEvents<K extends DomainEventKind>(
    kind: K,
    listener: DomainEventListener<K>,
  ): Promise<() => Promise<void>> {
    this.#pool.checkConnected('domainEvents');
    return this.#pool.events.add(kind, listener);
  }

  /**
   * Domain events of one kind as an async iterable, with gaps and overflows in their places. Breaking out of the loop
   * takes the listener back; so does `signal`, and then the iteration ends. It ends, too, when the connection is closed.
   *
   * @param options.bufferMax Events that may wait. @default 1_024
   */
  async *domainEventStream<K extends DomainEventKind>(
    kind: K,
    options: { bufferMax?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<StreamedEvent<K>, void, void> {
    const buffer = new EventBuffer<K>(options.bufferMax ?? EVENT_BUFFER_MAX);
    const end = () => buffer.end();
    const stopListening = await this.domainEvents(kind, (event) => buffer.push({ type: 'event', event }));
    const stopGaps = this.onGap((gap) => buffer.push({ type: 'gap', gap }));
    const signals = [this.#pool.closed, ...(options.signal ? [options.signal] : [])];
    for (const signal of signals) signal.aborted ? end() : signal.addEventListener('abort', end);
    try {
      yield* buffer.read();
    } finally {
      for (const signal of signals) signal.removeEventListener('abort', end);
      stopGaps();
      await stopListening();
    }
  }

  /** Told after each reconnection: events may have been missed. @returns Takes the listener back. */
  onGap(listener: (gap: Gap) => void): () => void {
    return this.#pool.events.onGap(listener);
  }

  /** libvirt's version as one number: 1,000,000 × major + 1,000 × minor + release. */
  async getLibVersion(options?: CallOptions): Promise<number> {
    return Number((await this.call('connectGetLibVersion', undefined, options)).lib_ver);
  }

  /** The hypervisor's version as one number, as `getLibVersion`. */
  async getVersion(options?: CallOptions): Promise<number> {
    return Number((await this.call('connectGetVersion', undefined, options)).hv_ver);
  }

  async getHostname(options?: CallOptions): Promise<string> {
    return (await this.call('connectGetHostname', undefined, options)).hostname;
  }

  /** Capabilities of the host, as XML. The daemon may probe QEMU binaries for it. */
  async getCapabilities(options?: CallOptions): Promise<string> {
    return (await this.call('connectGetCapabilities', undefined, { role: 'long', ...options })).capabilities;
  }

  /** Capabilities of an emulator with a machine type, as XML; null leaves the choice to the driver. */
  async getDomainCapabilities(
    emulator: string | null = null,
    arch: string | null = null,
    machine: string | null = null,
    virttype: string | null = null,
    flags = 0,
    options?: CallOptions,
  ): Promise<string> {
    const args = { emulatorbin: emulator, arch, machine, virttype, flags };
    return (await this.call('connectGetDomainCapabilities', args, { role: 'long', ...options })).capabilities;
  }

  async nodeGetInfo(options?: CallOptions): Promise<NodeInfo> {
    const info = await this.call('nodeGetInfo', undefined, options);
    return {
      model: textOfChars(info.model),
      memoryKib: Number(info.memory),
      cpus: info.cpus,
      mhz: info.mhz,
      numaNodes: info.nodes,
      socketsPerNode: info.sockets,
      coresPerSocket: info.cores,
      threadsPerCore: info.threads,
    };
  }

  /** @param flags virConnectListAllDomainsFlags; 0 gives all. */
  async listAllDomains(flags = 0, options?: CallOptions): Promise<Domain[]> {
    const { domains } = await this.call(
      'connectListAllDomains',
      { need_results: NEED_RESULTS, flags },
      options,
    );
    return domains.map((domain) => this.#domain(domain));
  }

  /** @throws {LibvirtError} VIR_ERR_NO_DOMAIN */
  async domainLookupByUUIDString(uuid: string, options?: CallOptions): Promise<Domain> {
    return this.#domain((await this.call('domainLookupByUuid', { uuid }, options)).dom);
  }

  /** @throws {LibvirtError} VIR_ERR_NO_DOMAIN */
  async domainLookupByName(name: string, options?: CallOptions): Promise<Domain> {
    return this.#domain((await this.call('domainLookupByName', { name }, options)).dom);
  }

  /** Defines a domain, or changes the definition of the one with this UUID. @param flags virDomainDefineFlags */
  async domainDefineXMLFlags(xml: string, flags = 0, options?: CallOptions): Promise<Domain> {
    return this.#domain(
      (await this.call('domainDefineXmlFlags', { xml, flags }, { role: 'long', ...options })).dom,
    );
  }

  /** Starts a domain without defining it. @param flags virDomainCreateFlags */
  async domainCreateXML(xml: string, flags = 0, options?: CallOptions): Promise<Domain> {
    return this.#domain(
      (await this.call('domainCreateXml', { xml_desc: xml, flags }, { role: 'long', ...options })).dom,
    );
  }

  /**
   * Statistics of many domains in one call.
   *
   * @param stats virDomainStatsTypes; 0 gives all.
   * @param flags virConnectGetAllDomainStatsFlags; NOWAIT leaves out what a busy domain cannot answer now.
   * @param domains Only these; all when left out.
   */
  async getAllDomainStats(
    stats = 0,
    flags = 0,
    domains: readonly NonnullDomain[] = [],
    options?: CallOptions,
  ): Promise<DomainStats[]> {
    const args = { doms: [...domains], stats, flags };
    const { retStats } = await this.call('connectGetAllDomainStats', args, { role: 'long', ...options });
    return retStats.map(({ dom, params }) => ({
      domain: this.#domain(dom),
      stats: typedParamsToObject(params),
    }));
  }

  /** Ends everything: pending calls fail with kind 'closed', streams are destroyed, nothing reconnects. */
  async close(): Promise<void> {
    this.#pool.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #domain(plain: NonnullDomain): Domain {
    return new Domain(this, plain);
  }

  #limits(options: CallOptions, role: Role): CallOptions {
    return {
      timeoutMs: checkedTimeoutMs(options.timeoutMs ?? this.#timeoutsMs[role]),
      signal: options.signal,
    };
  }
}

/** A C string in an array of fixed length. */
function textOfChars(chars: readonly number[]): string {
  const end = chars.indexOf(0);
  return Buffer.from(end < 0 ? chars : chars.slice(0, end)).toString('utf8');
}
