/**
 * Dispatcher: from a method's name and untrusted params to its answer, the same for every way in.
 *
 *   name ─▶ method table ─▶ role ─▶ schema ─▶ state known? ─▶ handler (a read) or journal (an operation)
 *                                                                         └─ a change: who is it? ─▶ audit log
 *
 * What each bad call gets: unknown method → UNSUPPORTED with a suggestion; too little a role →
 * PERMISSION_DENIED; params that don't fit → INVALID_ARGUMENT with the place; while the node's state is being
 * rebuilt all that would tell of objects, or change them, → UNAVAILABLE; the rest is the handler's. Refusals of
 * changes, of unknown methods and for the role are in the audit log, as far as it has room for them; what is
 * repeated under its key is not there again.
 */
import type { Principal, Way } from '../../model/audit.ts';
import { AgentError } from '../../model/errors.ts';
import {
  isChange,
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
import { agentItself, callEntry, refusalEntry } from '../audit/entries.ts';
import type { Refusals } from '../audit/refusals.ts';
import type { Log } from '../log.ts';
import type { AuditLog } from '../store/audit-log.ts';
import type { Operations } from '../operations/operations.ts';

export type ReadMethod = Exclude<MethodName, OperationMethod>;

/** What a handler is told besides the params. */
export interface ReadContext {
  /** Aborted when the caller has gone away. */
  signal: AbortSignal | undefined;
  /** Writes the call into the audit log, within a transaction; for those that change something. */
  record(): void;
}

export type Readers = {
  [M in ReadMethod]: (params: Params<M>, context: ReadContext) => Result<M> | Promise<Result<M>>;
};

export interface Caller {
  role: Role;
  /** @default 'operator' */
  asker?: Extract<Asker, 'operator' | 'scheduler'>;
  /** Aborted when the caller has gone. */
  signal?: AbortSignal;
  /** Who it is, for the audit log. @default the agent itself */
  identity?: CallerIdentity;
}

export interface CallerIdentity {
  via: Way;
  /** Never rejects; asked only where it is written down. */
  who(): Promise<Principal>;
}

/** What is answered at any time: it tells of the node itself, and of what was done. */
const ALWAYS_ANSWERED: ReadonlySet<MethodName> = new Set<MethodName>([
  'node.status',
  'node.doctor',
  'node.backup',
  'node.identity',
  'node.enrol',
  'operation.list',
  'operation.get',
  'event.list',
  'audit.list',
  'audit.verify',
]);

/** Whether the node's state can be relied on. */
export interface ServingGate {
  /** @throws {AgentError} UNAVAILABLE */
  assertServing(what: string): void;
}

export interface DispatcherParts {
  operations: Operations;
  readers: Readers;
  gate: ServingGate;
  audit: AuditLog;
  refusals: Refusals;
  log: Log;
}

export class Dispatcher {
  readonly #parts: DispatcherParts;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} whatever is wrong with the call, or whatever the method says. */
  async call(name: string, params: unknown, caller: Caller): Promise<unknown> {
    try {
      return await this.#call(name, params, caller);
    } catch (thrown) {
      const error = AgentError.from(thrown);
      if (error.code === 'INTERNAL') this.#parts.log.error({ method: name, error }, 'a call met a defect');
      this.#tellRefused({ name, params }, caller, error);
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
    if (!ALWAYS_ANSWERED.has(name)) this.#parts.gate.assertServing(name);
    const who = isChange(method) ? await identityOf(caller).who() : agentItself('operator');
    return this.#handle(name, parsed, caller, who);
  }

  #handle(name: MethodName, parsed: unknown, { asker, signal }: Caller, who: Principal): unknown {
    const { operations, readers, audit } = this.#parts;
    if (METHODS[name].kind === 'operation') {
      return { operation: operations.submit(name as OperationMethod, parsed as never, asker, who) };
    }
    const record = () => audit.append(callEntry(name, parsed, who, null));
    return readers[name as ReadMethod](parsed as never, { signal, record });
  }

  #tellRefused({ name, params }: { name: string; params: unknown }, caller: Caller, error: AgentError): void {
    const method: Method | null = isMethodName(name) ? METHODS[name] : null;
    const isTold = method === null || isChange(method) || error.code === 'PERMISSION_DENIED';
    if (!isTold) return;
    const { via, who } = identityOf(caller);
    const entryOf = (known: Principal) => refusalEntry({ name, method, params }, known, error.code);
    void this.#parts.refusals.tell(via, who, entryOf);
  }
}

function identityOf({ identity, asker = 'operator' }: Caller): CallerIdentity {
  return identity ?? { via: 'agent', who: async () => agentItself(asker) };
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
