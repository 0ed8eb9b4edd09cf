/**
 * A domain: libvirt's functions on it, those generated (src/api/domain.gen.ts) and those that take more than one call.
 *
 * The daemon finds domains by UUID, so a stale id does no harm.
 */
import type { RoleCallOptions } from './api/caller.ts';
import { DomainMethods } from './api/domain.gen.ts';
import type { Connection } from './connection.ts';
import { type MigrateOptions, migrate, migrateNamed, migrateToUri } from './migration/migrate.ts';
import { namedParams } from './migration/request.ts';
import { type TypedParams, type TypedParamsInput, typedParamsToObject } from './typed-params.ts';

/** What the daemon needs on top of the agent's own time, ms. */
const AGENT_MARGIN_MS = 5_000;

/** CPUs in one reply. @see REMOTE_DOMAIN_GET_CPU_STATS_NCPUS_MAX, remote_protocol.x */
const CPU_STATS_MAX = 128;

export class Domain extends DomainMethods {
  /**
   * Sends a command to the guest agent. virDomainQemuAgentCommand, since libvirt 0.10.0.
   *
   * @param command JSON text, for example '{"execute":"guest-ping"}'.
   * @param timeout Seconds that the daemon gives the agent; virDomainQemuAgentCommandTimeoutValues: -2 for ever, -1
   *   the daemon's default, 0 no wait. The call's own timeout is longer, unless it is given.
   * @returns The agent's reply as JSON text: the guest wrote it, so it is to be distrusted.
   * @throws {LibvirtError} VIR_ERR_AGENT_COMMAND_TIMEOUT or VIR_ERR_AGENT_UNRESPONSIVE after that time,
   *   VIR_ERR_AGENT_COMMAND_FAILED.
   */
  async qemuAgentCommand(
    command: string,
    timeout = -1,
    flags = 0,
    options?: RoleCallOptions,
  ): Promise<string | null> {
    const limits =
      typeof timeout === 'number' && timeout > 0
        ? { timeoutMs: timeout * 1000 + AGENT_MARGIN_MS, ...options }
        : options;
    const args = { dom: this, cmd: command, timeout, flags };
    return (await this.connection.call('qemuDomainAgentCommand', args, { role: 'long', ...limits })).result;
  }

  /**
   * Statistics of host CPUs as this domain uses them. virDomainGetCPUStats, since libvirt 0.9.10.
   *
   * @param startCpu The first CPU; -1 for the sum over all, with `ncpus` 1.
   * @param ncpus At most 128; 0 for all from `startCpu` on.
   * @returns For each CPU its figures in nanoseconds; an empty object for one that is offline.
   */
  async getCPUStats(
    startCpu: number,
    ncpus: number,
    flags = 0,
    options?: RoleCallOptions,
  ): Promise<TypedParams[]> {
    const ask = (nparams: number, count: number) =>
      this.connection.call(
        'domainGetCpuStats',
        { dom: this, nparams, start_cpu: startCpu, ncpus: count, flags },
        { role: 'long', ...options },
      );
    const cpus = ncpus || Math.min((await ask(0, 0)).nparams - startCpu, CPU_STATS_MAX);
    const { nparams } = await ask(0, 1);
    const { params } = await ask(nparams, cpus);
    return Array.from({ length: cpus }, (_, cpu) =>
      typedParamsToObject(params.slice(cpu * nparams, (cpu + 1) * nparams)),
    );
  }

  /**
   * Moves the domain to another host. virDomainMigrate, since libvirt 0.3.2.
   *
   * As `migrate3`, with some parameters by name; it also goes peer to peer.
   *
   * @param flags virDomainMigrateFlags
   * @param dname A new name at the destination.
   * @param uri Where the hypervisor sends the memory to. With VIR_MIGRATE_PEER2PEER, the URI by which the source's daemon
   *   connects to the destination's. @default The destination chooses. With PEER2PEER, the URI of `dconn`.
   * @param bandwidth MiB/s at most; 0 leaves it to libvirt.
   */
  async migrate(
    dconn: Connection,
    flags = 0,
    dname: string | null = null,
    uri: string | null = null,
    bandwidth: number | bigint = 0,
    options?: MigrateOptions,
  ): Promise<Domain> {
    const params = { dname, uri, bandwidth };
    return migrateNamed(this, dconn, { params, flags, peerUriOf: 'daemon' }, options);
  }

  /**
   * Moves the domain to another host. virDomainMigrate2, since libvirt 0.9.2.
   *
   * As `migrate3`, with some parameters by name. With VIR_MIGRATE_PEER2PEER the source's daemon connects to the
   * destination's by the URI that `dconn` was made with.
   *
   * @param dxml The domain at the destination, with the same devices; null for the XML as it is.
   * @param flags virDomainMigrateFlags
   * @param dname A new name at the destination.
   * @param uri Where the hypervisor sends the memory to. @default The destination chooses.
   * @param bandwidth MiB/s at most; 0 leaves it to libvirt.
   */
  async migrate2(
    dconn: Connection,
    dxml: string | null = null,
    flags = 0,
    dname: string | null = null,
    uri: string | null = null,
    bandwidth: number | bigint = 0,
    options?: MigrateOptions,
  ): Promise<Domain> {
    const params = { dxml, dname, uri, bandwidth };
    return migrateNamed(this, dconn, { params, flags, peerUriOf: 'hypervisor' }, options);
  }

  /**
   * Moves the domain to another host. virDomainMigrate3, since libvirt 1.1.0.
   *
   * This client leads both daemons, so both connections have to live until the end. It takes sockets of its own, at most
   * 8 on a connection at once, and by default any time that it needs. `abortJob` stops it, as do `timeoutMs` and
   * `signal`: the guest then goes on at the source, which is waited for.
   *
   * @param dconn Another connection, to the destination.
   * @param params VIR_MIGRATE_PARAM_*, for example `{ migrate_uri: 'tcp://10.0.0.2', bandwidth: 100 }`.
   * @param flags virDomainMigrateFlags, without VIR_MIGRATE_PEER2PEER and VIR_MIGRATE_TUNNELLED.
   * @returns The domain at the destination.
   * @throws {LibvirtError} The first refusal of either daemon; the guest goes on at the source. `cause` holds all errors
   *   when there was more than one.
   * @throws {LibvirtTransportError} timeout, aborted: stopped. closed, keepalive, protocol: a connection was lost; the
   *   message says what is known of the guest. limit.
   * @throws {LibvirtUsageError} Nothing was begun.
   */
  async migrate3(
    dconn: Connection,
    params: TypedParamsInput = {},
    flags = 0,
    options?: MigrateOptions,
  ): Promise<Domain> {
    return migrate(this, dconn, params, flags, options);
  }

  /**
   * Has the source's daemon move the domain. virDomainMigrateToURI, since libvirt 0.7.2.
   *
   * @param duri As `dconnuri` of `migrateToURI3`.
   * @param flags @param dname @param bandwidth As `migrate`.
   */
  async migrateToURI(
    duri: string,
    flags = 0,
    dname: string | null = null,
    bandwidth: number | bigint = 0,
    options?: MigrateOptions,
  ): Promise<void> {
    return migrateToUri(this, duri, namedParams({ dname, bandwidth }), flags, options);
  }

  /**
   * Has the source's daemon move the domain. virDomainMigrateToURI2, since libvirt 0.9.2.
   *
   * @param dconnuri As `migrateToURI3`.
   * @param miguri Where the hypervisor sends the memory to. @default The destination chooses.
   * @param dxml @param flags @param dname @param bandwidth As `migrate2`.
   */
  async migrateToURI2(
    dconnuri: string | null,
    miguri: string | null = null,
    dxml: string | null = null,
    flags = 0,
    dname: string | null = null,
    bandwidth: number | bigint = 0,
    options?: MigrateOptions,
  ): Promise<void> {
    return migrateToUri(this, dconnuri, namedParams({ dxml, dname, uri: miguri, bandwidth }), flags, options);
  }

  /**
   * Has the source's daemon move the domain: it connects to the destination's by itself. virDomainMigrateToURI3, since
   * libvirt 1.1.0.
   *
   * When this connection is lost the daemon goes on. Otherwise limits are those of `migrate3`.
   *
   * @param dconnuri By which the source's daemon connects to the destination's, for example
   *   'qemu+tls://host2.example/system'.
   * @param params VIR_MIGRATE_PARAM_*
   * @param flags virDomainMigrateFlags, with VIR_MIGRATE_PEER2PEER: no driver has the direct way without it.
   * @throws {LibvirtUnsupportedError} VIR_ERR_ARGUMENT_UNSUPPORTED without VIR_MIGRATE_PEER2PEER.
   * @throws As `migrate3`.
   */
  async migrateToURI3(
    dconnuri: string | null,
    params: TypedParamsInput = {},
    flags = 0,
    options?: MigrateOptions,
  ): Promise<void> {
    return migrateToUri(this, dconnuri, params, flags, options);
  }
}
