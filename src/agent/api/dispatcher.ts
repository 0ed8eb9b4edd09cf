/**
 * Dispatcher: from a method's name and untrusted params to its answer, the same for every way in.
 *
 *   name ─▶ method table ─▶ role ─▶ schema ─▶ state known? ─▶ handler (a read) or journal (an operation)
 *
 * What each bad call gets: unknown method → UNSUPPORTED with a suggestion; too little a role →
 * PERMISSION_DENIED; params that don't fit → INVALID_ARGUMENT with the place; while the node's state is being
 * rebuilt all that would tell of objects, or change them, → UNAVAILABLE; the rest is the handler's.
 */
import { AgentError } from '../../model/errors.ts';
import {
  isMethodName,
  METHOD_NAMES,
  METHODS,
  type Method,
  type MethodName,
  type OperationMethod,
  type Params,
  type Result,
  type Role,
  roleAllows,
} from '../../model/methods.ts';
import { parse, suggest } from '../../model/validate.ts';
import type { Asker } from '../../model/operation.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';

export type ReadMethod = Exclude<MethodName, OperationMethod>;

/** `signal` is aborted when the caller has gone away. */
export type Readers = {
  [M in ReadMethod]: (params: Params<M>, signal?: AbortSignal) => Result<M> | Promise<Result<M>>;
};

export interface Caller {
  role: Role;
  /** @default 'operator' */
  asker?: Extract<Asker, 'operator' | 'scheduler'>;
  /** Aborted when the caller has gone. */
  signal?: AbortSignal;
}

/** What is answered at any time: it tells of the node itself, and of what was done. */
const ALWAYS_ANSWERED: ReadonlySet<MethodName> = new Set<MethodName>([
  'node.status',
  'node.doctor',
  'node.backup',
  'operation.list',
  'operation.get',
  'event.list',
]);

/** Whether the node's state can be relied on. */
export interface ServingGate {
  /** @throws {AgentError} UNAVAILABLE */
  assertServing(what: string): void;
}

export class Dispatcher {
  readonly #operations: Operations;
  readonly #readers: Readers;
  readonly #gate: ServingGate;
  readonly #log: Log;

  constructor(operations: Operations, readers: Readers, gate: ServingGate, log: Log) {
    this.#operations = operations;
    this.#gate = gate;
    this.#readers = readers;
    this.#log = log;
  }

  /** @throws {AgentError} whatever is wrong with the call, or whatever the method says. */
  async call(name: string, params: unknown, caller: Caller): Promise<unknown> {
    try {
      return await this.#call(name, params, caller);
    } catch (thrown) {
      const error = AgentError.from(thrown);
      if (error.code === 'INTERNAL') this.#log.error({ method: name, error }, 'a call met a defect');
      throw error;
    }
  }

  async #call(name: string, params: unknown, caller: Caller): Promise<unknown> {
    if (!isMethodName(name)) throw unknownMethod(name);
    const method: Method = METHODS[name];
    assertRole(name, caller.role, method.role);
    const parsed: unknown = parse(method.params, params ?? {}, `params of ${name}`);
    if (method.raised?.needed(parsed as Record<string, unknown>)) {
      assertRole(`${name} ${method.raised.words}`, caller.role, method.raised.role);
    }
    if (!ALWAYS_ANSWERED.has(name)) this.#gate.assertServing(name);
    if (method.kind === 'operation') {
      return { operation: this.#operations.submit(name as OperationMethod, parsed as never, caller.asker) };
    }
    return this.#readers[name as ReadMethod](parsed as never, caller.signal);
  }
}

function assertRole(what: string, has: Role, needs: Role): void {
  if (roleAllows(has, needs)) return;
  throw new AgentError('PERMISSION_DENIED', `${what} needs the role ${needs}; the caller has ${has}`);
}

function unknownMethod(name: string): AgentError {
  const meant = suggest(name, METHOD_NAMES);
  return new AgentError(
    'UNSUPPORTED',
    `No method ${JSON.stringify(name.slice(0, 64))}${meant === null ? '' : `; did you mean ${meant}?`}`,
    {
      hint: `Methods are ${METHOD_NAMES.join(', ')}.`,
    },
  );
}
