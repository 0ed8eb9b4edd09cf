/**
 * A managed migration: this client leads it, and the two daemons never talk to each other; only their hypervisors do.
 *
 * Theory of operation: five calls, each of which hands a cookie to the next one.
 *
 *   source        begin ─────────┐          ┌► perform ─┐             ┌► confirm
 *   destination                  └► prepare ┘           └► finish ────┘
 *
 *   begin    starts the job at the source, where nothing else may change the domain from now on; gives the XML
 *   prepare  starts a hypervisor that waits for the memory; gives the URI to send it to
 *   perform  moves the memory, which may take hours; afterwards the guest is paused at the source
 *   finish   lets the guest run at the destination, or, cancelled, drops it there
 *   confirm  drops the guest at the source, or, cancelled, lets it go on there
 *
 * Each side has a socket of its own for all of its calls: the daemon ties what begin and prepare have made to the client
 * that called, and drops it when that client goes.
 *
 * Promises: whatever was begun is ended: after a failure the destination is told to drop the guest, and the source to go
 * on with it, unless its own perform has failed, after which it does so by itself. A guest that runs at the destination
 * is never reported as a failure.
 *
 * @see virDomainMigrateVersion3Full, libvirt-domain.c
 */
import type { Connection } from '../connection.ts';
import {
  virDomainMigrateFlags as Flag,
  virDomainState,
  virErrorDomain,
  virErrorLevel,
  virErrorNumber,
} from '../constants.gen.ts';
import type { Domain } from '../domain.ts';
import { LibvirtError } from '../errors.ts';
import type { Session } from '../session.ts';
import type { TypedParam } from '../typed-params.ts';
import { type Failure, migrationError, type Phase } from './failure.ts';
import { has, type MigrationRequest, NO_COOKIE, Param, textOf, withText } from './request.ts';
import type { Stop } from './stop.ts';

export interface ManagedOptions {
  source: Session;
  destination: Session;
  /** VIR_MIGRATE_CHANGE_PROTECTION where the source has it, or 0. */
  protection: number;
  stop: Stop;
  /** Told when the guest runs at the destination, and the source could not be told so. */
  onUnconfirmed(error: Error): void;
}

/** Flags that are the source's alone. */
const SOURCE_ONLY = Flag.VIR_MIGRATE_ABORT_ON_ERROR | Flag.VIR_MIGRATE_AUTO_CONVERGE;

export class ManagedMigration {
  readonly #domain: Domain;
  readonly #dconn: Connection;
  readonly #options: ManagedOptions;
  #params: TypedParam[];
  #flags: number;
  /** What the last call has given for the next one. */
  #cookie: Uint8Array = NO_COOKIE;
  readonly #failures: Failure[] = [];
  /** The source's job has ended, or its daemon cannot be told anything. */
  #sourceIsDone = false;

  constructor(domain: Domain, dconn: Connection, request: MigrationRequest, options: ManagedOptions) {
    this.#domain = domain;
    this.#dconn = dconn;
    this.#params = request.params;
    this.#flags = request.flags;
    this.#options = options;
  }

  /** @throws {Error} What `migrationError` makes of the failures. */
  async run(): Promise<Domain> {
    const xml = await this.#attempt('begin', () => this.#begin());
    if (xml === undefined) throw this.#error();
    const prepared = await this.#attempt('prepare', () => this.#prepare(xml));
    let moved: Domain | undefined;
    if (prepared !== undefined) {
      await this.#attempt('perform', () => this.#perform(prepared.uri));
      moved = await this.#attempt('finish', () => this.#finish());
    }
    if (moved !== undefined) await this.#confirm('moved');
    else if (!this.#sourceIsDone) await this.#confirm('cancelled');
    if (moved === undefined) throw this.#error();
    return moved;
  }

  get #sourceFlags(): number {
    return (this.#flags | this.#options.protection) >>> 0;
  }

  get #destinationFlags(): number {
    return (this.#flags & ~SOURCE_ONLY) >>> 0;
  }

  async #begin(): Promise<string> {
    const { source } = this.#options;
    const args = { dom: this.#domain, params: this.#params, flags: this.#sourceFlags };
    const { xml, cookie_out } = await source.call('domainMigrateBegin3Params', args);
    this.#cookie = cookie_out;
    return xml;
  }

  async #prepare(xml: string): Promise<{ uri: string | null }> {
    await this.#notePause();
    this.#options.stop.throwIfWished();
    this.#params = withText(this.#params, Param.destXml, xml);
    const { cookie_out, uri_out } = await this.#options.destination.call('domainMigratePrepare3Params', {
      params: this.#params,
      cookie_in: this.#takeCookie(),
      flags: this.#destinationFlags,
    });
    this.#cookie = cookie_out;
    return { uri: uri_out };
  }

  /** A guest that is paused stays paused at the destination. */
  async #notePause(): Promise<void> {
    const { state } = await this.#options.source.call('domainGetState', { dom: this.#domain, flags: 0 });
    if (state === virDomainState.VIR_DOMAIN_PAUSED && !has(this.#flags, 'VIR_MIGRATE_POSTCOPY_RESUME'))
      this.#flags = (this.#flags | Flag.VIR_MIGRATE_PAUSED) >>> 0;
  }

  /** @param uri The destination's, if it has another one than it was given. */
  async #perform(uri: string | null): Promise<void> {
    const { source, stop } = this.#options;
    if (uri !== null) this.#params = withText(this.#params, Param.uri, uri);
    else if (textOf(this.#params, Param.uri) === undefined) throw noUri();
    stop.throwIfWished();
    if (has(this.#flags, 'VIR_MIGRATE_OFFLINE')) {
      this.#cookie = NO_COOKIE;
      return;
    }
    const performing = source.call('domainMigratePerform3Params', {
      ...{ dom: this.#domain, dconnuri: null, params: this.#params },
      ...{ cookie_in: this.#takeCookie(), flags: this.#sourceFlags },
    });
    try {
      this.#cookie = (await stop.replyOf(performing)).cookie_out;
    } catch (error) {
      this.#sourceIsDone = true;
      if (stop.wished.aborted) this.#note('perform', stop.wished.reason);
      throw error;
    }
  }

  /** @returns undefined when something has failed before, and the destination has dropped the guest for it. */
  async #finish(): Promise<Domain | undefined> {
    const cancelled = this.#failures.length > 0;
    if (textOf(this.#params, Param.destName) === undefined)
      this.#params = withText(this.#params, Param.destName, this.#domain.name);
    try {
      const { dom, cookie_out } = await this.#options.destination.call('domainMigrateFinish3Params', {
        ...{ params: this.#params, cookie_in: this.#takeCookie() },
        ...{ flags: this.#destinationFlags, cancelled: cancelled ? 1 : 0 },
      });
      this.#cookie = cookie_out;
      if (cancelled) throw keptAtDestination();
      return this.#dconn.objects.domain(dom);
    } catch (error) {
      if (cancelled && isDropped(error)) return undefined;
      throw error;
    }
  }

  async #confirm(outcome: 'moved' | 'cancelled'): Promise<void> {
    try {
      await this.#options.source.call('domainMigrateConfirm3Params', {
        ...{ dom: this.#domain, params: this.#params, cookie_in: this.#takeCookie() },
        ...{ flags: this.#sourceFlags, cancelled: outcome === 'cancelled' ? 1 : 0 },
      });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      if (outcome === 'moved') this.#options.onUnconfirmed(unconfirmed(this.#domain.name, error));
      else this.#note('confirm', error);
    }
  }

  #takeCookie(): Uint8Array {
    const cookie = this.#cookie;
    this.#cookie = NO_COOKIE;
    return cookie;
  }

  /** Runs a phase; its failure is noted, for what follows depends on it. */
  async #attempt<T>(phase: Phase, action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#note(phase, error);
      return undefined;
    }
  }

  /** A lost connection fails several phases with the same error, which counts once. */
  #note(phase: Phase, error: Error): void {
    if (!this.#failures.some((failure) => failure.error === error)) this.#failures.push({ phase, error });
  }

  #error(): Error {
    const [first, ...later] = this.#failures;
    if (first === undefined) throw new Error('a migration without a result has no failure either');
    return migrationError(this.#domain.name, [first, ...later]);
  }
}

/** The answer of a destination that has dropped the guest as it was told. */
function isDropped(error: unknown): boolean {
  return error instanceof LibvirtError && error.code === virErrorNumber.VIR_ERR_MIGRATE_FINISH_OK;
}

function noUri(): LibvirtError {
  return ownError(
    'domainMigratePrepare3Params',
    'the destination did not say where the memory is to be sent',
  );
}

function keptAtDestination(): LibvirtError {
  return ownError(
    'domainMigrateFinish3Params',
    'the destination keeps the guest, although it was told to drop it',
  );
}

/** What libvirt's own client raises for a daemon that breaks the rules. */
function ownError(procedure: string, message: string): LibvirtError {
  const code = virErrorNumber.VIR_ERR_INTERNAL_ERROR;
  const reply = { code, domain: virErrorDomain.VIR_FROM_DOMAIN, level: virErrorLevel.VIR_ERR_ERROR, message };
  return new LibvirtError(reply, procedure);
}

function unconfirmed(name: string, cause: Error): Error {
  const message = `${name} runs at the destination, but may be left paused at the source, which could not be told`;
  const warning = new Error(`${message}: ${cause.message}`, { cause });
  warning.name = 'LibvirtMigrationWarning';
  return warning;
}
