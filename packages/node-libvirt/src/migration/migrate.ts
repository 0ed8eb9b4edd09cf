/**
 * Moves a domain to another host: libvirt's virDomainMigrate and its kin. Domain's methods lead here.
 *
 * Theory of operation: there are two ways.
 *
 *   managed       this client leads both daemons through the migration (managed.ts)
 *   peer to peer  one call: the source's daemon connects to the destination's, and leads
 *
 * Either way has sockets of its own (src/session.ts), so that hours of migration hold up no other call, and the domain's
 * `abortJob`, which uses the control socket, gets through.
 */
import type { Connection } from '../connection.ts';
import { virDomainMigrateFlags as Flag } from '../constants.gen.ts';
import type { Domain } from '../domain.ts';
import { LibvirtUsageError } from '../errors.ts';
import type { CallOptions } from '../rpc/calls.ts';
import type { Session } from '../session.ts';
import type { TypedParamsInput } from '../typed-params.ts';
import { migrationError } from './failure.ts';
import { Feature, requireFeature, supports, unsupported } from './features.ts';
import { ManagedMigration } from './managed.ts';
import {
  checkDestination,
  checkNotLocal,
  has,
  type MigrationRequest,
  migrationRequest,
  type NamedParams,
  NO_COOKIE,
  namedParams,
} from './request.ts';
import { Stop } from './stop.ts';

export interface MigrateOptions extends CallOptions {
  /**
   * Milliseconds for the whole migration. When they are over, or the signal fires, the migration is stopped: the
   * source's job is aborted, both hosts are put in order, and then the call fails with kind 'timeout' or 'aborted'. A
   * migration that is past its point of no return is completed instead.
   *
   * @default Infinity
   */
  timeoutMs?: number | undefined;
  /**
   * Told when the guest runs at the destination, and the source could not be told so: what is left there is paused, and
   * must not be resumed.
   *
   * @default A warning of the process.
   */
  onUnconfirmed?: (error: Error) => void;
}

/** virDomainMigrate3. @returns The domain at the destination. */
export async function migrate(
  domain: Domain,
  dconn: Connection,
  params: TypedParamsInput,
  flags: number,
  options: MigrateOptions = {},
): Promise<Domain> {
  checkDestination(domain, dconn);
  const request = migrationRequest(domain, params, flags);
  if (has(flags, 'VIR_MIGRATE_PEER2PEER'))
    throw new LibvirtUsageError('VIR_MIGRATE_PEER2PEER: use migrateToURI3');
  if (has(flags, 'VIR_MIGRATE_TUNNELLED'))
    throw new LibvirtUsageError('VIR_MIGRATE_TUNNELLED needs VIR_MIGRATE_PEER2PEER');
  using stop = new Stop(domain, options);
  const protection = await stop.preparing((limits) => checkManaged(domain.connection, dconn, flags, limits));
  using source = await openSession(domain, domain.connection, stop);
  using destination = await openSession(domain, dconn, stop);
  stop.alsoOn(destination.lost);
  // The source is always protected where it can be; a destination may not know that flag.
  const forBoth = { ...request, flags: (flags & ~Flag.VIR_MIGRATE_CHANGE_PROTECTION) >>> 0 };
  const onUnconfirmed = options.onUnconfirmed ?? ((error) => process.emitWarning(error));
  const parts = { source, destination, protection, stop, onUnconfirmed };
  return await new ManagedMigration(domain, dconn, forBoth, parts).run();
}

/** What virDomainMigrate and virDomainMigrate2 are asked. */
export interface NamedRequest {
  params: NamedParams;
  flags: number;
  /** What `params.uri` is for, peer to peer: the source's daemon, to connect to the destination's, or the hypervisor. */
  peerUriOf: 'daemon' | 'hypervisor';
}

/** virDomainMigrate and virDomainMigrate2, which may also go peer to peer. @returns The domain at the destination. */
export async function migrateNamed(
  domain: Domain,
  dconn: Connection,
  { params, flags, peerUriOf }: NamedRequest,
  options: MigrateOptions = {},
): Promise<Domain> {
  checkDestination(domain, dconn);
  migrationRequest(domain, namedParams(params), flags);
  if (!has(flags, 'VIR_MIGRATE_PEER2PEER'))
    return migrate(domain, dconn, namedParams(params), flags, options);
  const isOfDaemon = peerUriOf === 'daemon';
  const dconnuri = (isOfDaemon ? params.uri : null) ?? dconn.uri;
  const peerParams = isOfDaemon ? { ...params, uri: null } : params;
  await migrateToUri(domain, dconnuri, namedParams(peerParams), flags, options);
  return dconn.domainLookupByName(params.dname ?? domain.name);
}

/** virDomainMigrateToURI3. */
export async function migrateToUri(
  domain: Domain,
  dconnuri: string | null,
  params: TypedParamsInput,
  flags: number,
  options: MigrateOptions = {},
): Promise<void> {
  const request = migrationRequest(domain, params, flags);
  // Once a way of Xen's: no driver of libvirt 11.3 has VIR_DRV_FEATURE_MIGRATION_DIRECT.
  if (!has(flags, 'VIR_MIGRATE_PEER2PEER'))
    throw unsupported(
      'direct migration is not supported by the source host: VIR_MIGRATE_PEER2PEER is missing',
    );
  if (dconnuri === null) throw new LibvirtUsageError('VIR_MIGRATE_PEER2PEER needs dconnuri');
  checkNotLocal(dconnuri);
  using stop = new Stop(domain, options);
  await stop.preparing((limits) => checkPeerToPeer(domain.connection, flags, limits));
  using source = await openSession(domain, domain.connection, stop);
  await performPeerToPeer(domain, { ...request, dconnuri }, { source, stop });
}

async function performPeerToPeer(
  domain: Domain,
  { dconnuri, params, flags }: MigrationRequest & { dconnuri: string },
  { source, stop }: { source: Session; stop: Stop },
): Promise<void> {
  const args = { dom: domain, dconnuri, params, cookie_in: NO_COOKIE, flags };
  try {
    await stop.replyOf(source.call('domainMigratePerform3Params', args));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const failure = { phase: 'peerToPeer', error } as const;
    if (!stop.wished.aborted) throw migrationError(domain.name, [failure]);
    throw migrationError(domain.name, [{ phase: 'peerToPeer', error: stop.wished.reason }, failure]);
  }
}

function openSession(domain: Domain, connection: Connection, stop: Stop): Promise<Session> {
  return stop.preparing((limits) => connection.openSession(`migration of ${domain.name}`, limits));
}

/** @returns VIR_MIGRATE_CHANGE_PROTECTION where the source has it, or 0. @throws {LibvirtUnsupportedError} */
async function checkManaged(
  source: Connection,
  destination: Connection,
  flags: number,
  limits: CallOptions,
): Promise<number> {
  const isOffline = has(flags, 'VIR_MIGRATE_OFFLINE');
  for (const [connection, host] of [[source, 'source'] as const, [destination, 'destination'] as const]) {
    await requireFeature(connection, { feature: Feature.params, what: MIGRATION, host }, limits);
    if (isOffline)
      await requireFeature(connection, { feature: Feature.offline, what: OFFLINE, host }, limits);
  }
  if (await supports(source, Feature.changeProtection, limits)) return Flag.VIR_MIGRATE_CHANGE_PROTECTION;
  if (has(flags, 'VIR_MIGRATE_CHANGE_PROTECTION')) throw unsupported('cannot enforce change protection');
  return 0;
}

/** @throws {LibvirtUnsupportedError} */
async function checkPeerToPeer(source: Connection, flags: number, limits: CallOptions): Promise<void> {
  const host = 'source';
  if (has(flags, 'VIR_MIGRATE_OFFLINE'))
    await requireFeature(source, { feature: Feature.offline, what: OFFLINE, host }, limits);
  await requireFeature(source, { feature: Feature.peerToPeer, what: 'p2p migration', host }, limits);
  await requireFeature(source, { feature: Feature.params, what: MIGRATION, host }, limits);
}

/** Drivers that migrate at all have this, since libvirt 1.1.0. */
const MIGRATION = 'migration with parameters';
const OFFLINE = 'offline migration';
