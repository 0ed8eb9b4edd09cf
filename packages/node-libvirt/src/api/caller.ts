/**
 * What the generated methods (src/api/*.gen.ts) stand on: a way to call, and conversions.
 */
import type { Connection } from '../connection.ts';
import { LibvirtUsageError } from '../errors.ts';
import { checkedOptions } from '../limits.ts';
import type { Role } from '../pool.ts';
import type { ArgsOf, ProcedureName, ReplyOf } from '../protocol/procedures.ts';
import type { CallOptions } from '../rpc/calls.ts';
import type { LibvirtStream } from '../rpc/stream.ts';
import type { Objects } from './objects.gen.ts';

export type { CallOptions };

/** Flags are 32 bits wide in the protocol. */
const UINT_MAX = 0xffff_ffff;

export interface RoleCallOptions extends CallOptions {
  /** Which sockets the call uses. @default What docs/api.md says of the method. */
  role?: Role;
}

/** The base of Connection. */
export abstract class Caller {
  abstract readonly objects: Objects;
  abstract call<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options?: RoleCallOptions,
  ): Promise<ReplyOf<P>>;
  abstract openStream<P extends ProcedureName>(
    name: P,
    args: ArgsOf<P>,
    options?: CallOptions,
  ): Promise<{ reply: ReplyOf<P>; stream: LibvirtStream }>;
}

/** The base of all that a daemon has: what names it, and the connection. It holds no state of the thing itself. */
export abstract class LibvirtObject {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get connection(): Connection {
    return this.#connection;
  }
}

/** The role of a method, unless the caller wants another. @throws {LibvirtUsageError} The options are no object. */
export function as(role: Role, options: RoleCallOptions | undefined): RoleCallOptions {
  return options === undefined ? { role } : { role, ...checkedOptions(options) };
}

export function booleanOfInt(value: number): boolean {
  return value !== 0;
}

/** @throws {LibvirtUsageError} Not a boolean. */
export function intOfBoolean(name: string, value: boolean): number {
  if (typeof value !== 'boolean')
    throw new LibvirtUsageError(`${name}: expected a boolean, got ${typeof value}`);
  return value ? 1 : 0;
}

/** Flags with one more. What is no number is left as it is, for the encoder to refuse. */
export function withFlag(flags: number, flag: number): number {
  return Number.isSafeInteger(flags) && flags >= 0 && flags <= UINT_MAX ? (flags | flag) >>> 0 : flags;
}
