/**
 * What a caller asks of a migration, checked before anything goes on the wire. Pure.
 */
import { Caller } from '../api/caller.ts';
import type { Connection } from '../connection.ts';
import { virDomainMigrateFlags as Flag } from '../constants.gen.ts';
import type { Domain } from '../domain.ts';
import { LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { type ArgsOf, procedureNamed } from '../protocol/procedures.ts';
import { type TypedParam, type TypedParamsInput, typedParamsFromObject } from '../typed-params.ts';
import { XdrWriter } from '../xdr/writer.ts';

/** A migration's parameters as they are sent, and its flags, virDomainMigrateFlags. */
export interface MigrationRequest {
  params: TypedParam[];
  flags: number;
}

/** The parameters that libvirt's older functions take one by one. */
export interface NamedParams {
  dxml?: string | null;
  dname: string | null;
  uri?: string | null;
  /** MiB/s; 0 leaves it to libvirt. */
  bandwidth: number | bigint;
}

/** Names of parameters that are read here. @see VIR_MIGRATE_PARAM_URI and its like, libvirt-domain.h */
export const Param = {
  uri: 'migrate_uri',
  destName: 'destination_name',
  destXml: 'destination_xml',
  bandwidth: 'bandwidth',
} as const;

export const NO_COOKIE = new Uint8Array(0);

/** @see VIR_EXCLUSIVE_FLAGS_GOTO in virDomainMigrate, libvirt-domain.c */
const EXCLUSIVE: readonly (readonly [keyof typeof Flag, keyof typeof Flag])[] = [
  ['VIR_MIGRATE_NON_SHARED_DISK', 'VIR_MIGRATE_NON_SHARED_INC'],
  ['VIR_MIGRATE_TUNNELLED', 'VIR_MIGRATE_PARALLEL'],
];

/** @throws {LibvirtUsageError} An unknown name, a value that cannot be sent, or flags that contradict each other. */
export function migrationRequest(domain: Domain, input: TypedParamsInput, flags: number): MigrationRequest {
  const params = typedParamsFromObject(input);
  checkArgs({ dom: domain, dconnuri: null, params, cookie_in: NO_COOKIE, flags });
  checkFlags(flags);
  if (textOf(params, Param.destName) === '')
    throw new LibvirtUsageError('the name at the destination must not be empty');
  textOf(params, Param.uri);
  return { params, flags };
}

export function namedParams({ dxml, dname, uri, bandwidth }: NamedParams): TypedParamsInput {
  return {
    [Param.uri]: uri ?? undefined,
    [Param.destName]: dname ?? undefined,
    [Param.destXml]: dxml ?? undefined,
    [Param.bandwidth]: bandwidth,
  };
}

/** The text of a parameter. @throws {LibvirtUsageError} It is given, and is no text. */
export function textOf(params: readonly TypedParam[], name: string): string | undefined {
  const param = params.find(({ field }) => field === name);
  if (param === undefined) return undefined;
  if (typeof param.value === 'string') return param.value;
  throw new LibvirtUsageError(`typed parameter ${name} is a string, got a value of type ${param.type}`);
}

/** The parameters, with this one in the place of any other of its name. */
export function withText(params: readonly TypedParam[], name: string, value: string): TypedParam[] {
  return [...params.filter(({ field }) => field !== name), { field: name, type: 'string', value }];
}

/**
 * @throws {LibvirtUsageError} It is no connection, or the domain's own.
 * @throws {LibvirtTransportError} closed: one of the two is not connected.
 */
export function checkDestination(domain: Domain, dconn: Connection): void {
  if (!(dconn instanceof Caller)) throw new LibvirtUsageError('dconn: expected a Connection');
  if (dconn === domain.connection)
    throw new LibvirtUsageError('the destination is the connection that the domain is on already');
  for (const [host, { state }] of [['source', domain.connection] as const, ['destination', dconn] as const])
    if (state !== 'connected')
      throw new LibvirtTransportError('closed', `migration: there is no connection to the ${host}`);
}

/**
 * The URI by which the source's daemon shall connect to the destination's.
 *
 * @throws {LibvirtUsageError} It is no URI, or leads to the source itself. @see virDomainMigrateCheckNotLocal
 */
export function checkNotLocal(dconnuri: string): void {
  const uri = typeof dconnuri === 'string' ? URL.parse(dconnuri) : null;
  if (uri === null) throw new LibvirtUsageError('dconnuri: expected the URI of the destination’s libvirt');
  const names = [...uri.searchParams.keys()].map((name) => name.toLowerCase());
  const isSocket = /\+unix:$/.test(uri.protocol) && names.includes('socket');
  if (uri.hostname.startsWith('localhost') || (uri.hostname === '' && !isSocket))
    throw new LibvirtUsageError(
      'dconnuri leads to the source host itself: the source’s daemon connects by it to the destination',
    );
}

/** Whether these flags hold one. */
export function has(flags: number, flag: keyof typeof Flag): boolean {
  return (flags & Flag[flag]) !== 0;
}

/** Encodes to see whether it can be encoded. */
function checkArgs(args: ArgsOf<'domainMigratePerform3Params'>): void {
  procedureNamed('domainMigratePerform3Params').args?.encode(new XdrWriter(), args);
}

function checkFlags(flags: number): void {
  for (const [one, other] of EXCLUSIVE)
    if (has(flags, one) && has(flags, other)) throw new LibvirtUsageError(`${one} excludes ${other}`);
  const copiesDisks = has(flags, 'VIR_MIGRATE_NON_SHARED_DISK') || has(flags, 'VIR_MIGRATE_NON_SHARED_INC');
  if (has(flags, 'VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES') && !copiesDisks)
    throw new LibvirtUsageError(
      'VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES needs VIR_MIGRATE_NON_SHARED_DISK or …_INC',
    );
}
