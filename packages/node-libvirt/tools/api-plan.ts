/**
 * Plans the methods of the API: which function of libvirt's public API becomes which method, what it takes and gives.
 *
 * Theory of operation: a function and a procedure belong together when their names agree without case and
 * underscores. The method's parameters are the fields of the procedure's arguments, in their order, but for
 *
 *   the object itself        sent as it is: an object has the fields that the wire wants
 *   need_results, need_map   always 1: lists come whole
 *   maxnames, maxids …       the most that the reply may hold
 *   nparams                  asked for first: a call with 0 gives the number for the second call
 *
 * The result is the reply: nothing, its one value, or all its values.
 */
import type { ApiArgument, ApiDescription, ApiFunction } from './api-description.ts';
import {
  type ApiClass,
  BOOLEAN_ARGUMENTS,
  BOOLEAN_RESULTS,
  CLASSES,
  CONTROL_CALLS,
  DEFAULTS,
  EXCEPTIONS,
  type Exception,
  LONG_CALLS,
  REQUIRED_TEXTS,
  SMALL_RESULTS,
  STATUS_RESULTS,
} from './api-rules.ts';
import { camel, type NamedProcedure, procedures } from './names.ts';
import type { Field, Protocol } from './rpcl.ts';

export interface PlannedParameter {
  name: string;
  field: Field;
  kind: 'plain' | 'boolean' | 'typedParams' | 'object';
  /** null may be given. */
  isNullable: boolean;
  /** The source of its default; null when it must be given. */
  defaultValue: string | null;
  /** The enum that its numbers come from, if libvirt says. */
  enumType: string | null;
}

export type Result =
  | { kind: 'nothing' }
  | {
      kind: 'value' | 'number' | 'boolean' | 'object' | 'objects' | 'typedParams' | 'namedNumbers';
      field: Field;
    }
  /** All fields of the reply. */
  | { kind: 'reply'; fields: Field[] };

export interface PlannedMethod {
  function: ApiFunction;
  class: ApiClass;
  /** The method's name. */
  name: string;
  procedure: NamedProcedure;
  role: 'control' | 'short' | 'long';
  parameters: PlannedParameter[];
  /** Source of each field of the arguments, in order. */
  args: [name: string, source: string][];
  /** Where the number of typed parameters comes from, when the call needs it. */
  countFrom: 'ownReply' | 'schedulerType' | null;
  result: Result;
}

export interface Plan {
  methods: PlannedMethod[];
  exceptions: { function: ApiFunction; exception: Exception }[];
}

/** @throws {Error} A function is neither an exception nor has a procedure. */
export function planApi(api: ApiDescription, protocol: Protocol): Plan {
  const calls = new Map(
    procedures(protocol).map((call) => [spelling(call.base.replace(/^remote_/, '')), call]),
  );
  const plan: Plan = { methods: [], exceptions: [] };
  for (const fn of api.functions) {
    const exception = EXCEPTIONS.find(({ functions }) => functions.test(fn.name));
    if (exception !== undefined) plan.exceptions.push({ function: fn, exception });
    else plan.methods.push(planMethod(fn, calls, api, protocol));
  }
  return plan;
}

function planMethod(
  fn: ApiFunction,
  calls: Map<string, NamedProcedure>,
  api: ApiDescription,
  protocol: Protocol,
): PlannedMethod {
  const owner = CLASSES.find(({ pointer }) => pointer === fn.args[0]?.type);
  const procedure = calls.get(procedureSpelling(fn.name));
  if (owner === undefined || procedure === undefined)
    throw new Error(
      `${fn.name} has no ${owner ? 'procedure' : 'class'}: add it to EXCEPTIONS in api-rules.ts`,
    );
  const fields = protocol.structs.get(`${procedure.base}_args`) ?? [];
  const reply = protocol.structs.get(`${procedure.base}_ret`) ?? [];
  const self = fields.find((field) => isSelf(field, owner));
  const parameters = fields
    .filter((field) => field !== self && fixedSource(field, reply) === null)
    .map((field) => planParameter(field, fn, api));
  giveDefaults(parameters);
  return {
    function: fn,
    class: owner,
    name: methodName(fn.name, owner),
    procedure,
    role: role(fn, procedure),
    parameters,
    args: fields.map((field) => [
      field.name,
      field === self ? selfSource(field) : (fixedSource(field, reply) ?? parameterSource(field, parameters)),
    ]),
    countFrom: countFrom(fields, reply),
    result: planResult(fn, reply),
  };
}

/** virDomainLookupByUUIDString takes what virDomainLookupByUUID takes, since UUIDs are text here. */
function procedureSpelling(functionName: string): string {
  const name = functionName.replace(/UUIDString$/, 'UUID').replace(/^virDomainQemu/, 'virQemuDomain');
  return spelling(name.slice('vir'.length));
}

function spelling(name: string): string {
  return name.replaceAll('_', '').toLowerCase();
}

/** virDomainGetXMLDesc of a domain is getXMLDesc; virNodeGetInfo of a connection is nodeGetInfo. */
export function methodName(functionName: string, { prefix }: ApiClass): string {
  const bare = functionName.slice('vir'.length);
  const rest = bare.replace(new RegExp(`^${prefix}(?=[A-Z])`), '');
  return rest.replace(/^[A-Z]+?(?=[A-Z][a-z]|[a-z]|$)/, (start) => start.toLowerCase());
}

function role(fn: ApiFunction, { priority }: NamedProcedure): PlannedMethod['role'] {
  if (CONTROL_CALLS.test(fn.name)) return 'control';
  return priority === 'high' && !LONG_CALLS.test(fn.name) ? 'short' : 'long';
}

function isSelf(field: Field, owner: ApiClass): boolean {
  if (owner.wire === null) return false;
  return field.type === `remote_${owner.wire}` || (owner.name === 'NodeDevice' && field.name === 'name');
}

/** Node devices are sent by their name. */
function selfSource(field: Field): string {
  return field.type === 'remote_nonnull_string' ? 'this.name' : 'this';
}

/** What is sent in a field that callers do not give, or null for one that they do. */
function fixedSource(field: Field, reply: Field[]): string | null {
  if (/^need_/.test(field.name)) return '1';
  if (field.name === 'nparams') return 'nparams';
  if (/^max(names|ids|uuids|Stats|errors)$/.test(field.name))
    return String(reply.find(({ shape }) => shape === 'counted')?.size);
  return null;
}

function parameterSource(field: Field, parameters: PlannedParameter[]): string {
  const parameter = parameters.find((candidate) => candidate.field === field);
  if (parameter === undefined) throw new Error(`no parameter for ${field.name}`);
  const { name, kind } = parameter;
  if (kind === 'typedParams') return `typedParamsFromObject(${name})`;
  return kind === 'boolean' ? `intOfBoolean('${name}', ${name})` : name;
}

function planParameter(field: Field, fn: ApiFunction, api: ApiDescription): PlannedParameter {
  return {
    name: camel(field.name),
    field,
    kind: parameterKind(field),
    isNullable: mayBeAbsent(field) && !REQUIRED_TEXTS.test(fn.name),
    defaultValue: null,
    enumType: enumOf(
      fn.args.find(({ name }) => spelling(name) === spelling(field.name)),
      api,
    ),
  };
}

function parameterKind(field: Field): PlannedParameter['kind'] {
  if (field.type === 'remote_typed_param') return 'typedParams';
  if (BOOLEAN_ARGUMENTS.test(field.name)) return 'boolean';
  return classOfWire(field.type) === undefined ? 'plain' : 'object';
}

function enumOf(argument: ApiArgument | undefined, { enums }: ApiDescription): string | null {
  const words = argument?.info.match(/\bvir[A-Z]\w+/g) ?? [];
  return words.find((word) => enums.has(word)) ?? null;
}

/** What stands for "none" or "all" is the default, as long as nothing after it must be given. */
function giveDefaults(parameters: PlannedParameter[]): void {
  for (const parameter of parameters.toReversed()) {
    parameter.defaultValue = parameter.isNullable ? 'null' : (DEFAULTS[parameter.name] ?? null);
    if (parameter.defaultValue === null) return;
  }
}

function mayBeAbsent(field: Field): boolean {
  return field.type === 'remote_string' || field.shape === 'optional';
}

/** The class of an object on the wire: of remote_nonnull_domain, and of remote_domain, which may be absent. */
export function classOfWire(type: string): ApiClass | undefined {
  const wire = type.replace(/^remote_(nonnull_)?/, 'nonnull_');
  return CLASSES.find((candidate) => candidate.wire === wire);
}

function countFrom(fields: Field[], reply: Field[]): PlannedMethod['countFrom'] {
  if (!fields.some(({ name }) => name === 'nparams')) return null;
  return reply.some(({ name }) => name === 'nparams') ? 'ownReply' : 'schedulerType';
}

function planResult(fn: ApiFunction, reply: Field[]): Result {
  const list = reply.find(({ shape, type }) => shape === 'counted' && type !== 'opaque');
  const isCountOfList = (field: Field) => list !== undefined && /^(ret|nparams|nerrors)$/.test(field.name);
  const fields = reply.filter((field) => !isCountOfList(field) && !STATUS_RESULTS.test(fn.name));
  const [field] = fields;
  if (field === undefined) return { kind: 'nothing' };
  if (fields.length > 1) return { kind: 'reply', fields };
  return { kind: valueKind(fn, field), field };
}

function valueKind(fn: ApiFunction, field: Field): Exclude<Result['kind'], 'nothing' | 'reply'> {
  if (BOOLEAN_RESULTS.test(fn.name)) return 'boolean';
  if (SMALL_RESULTS.test(fn.name)) return 'number';
  if (field.type === 'remote_typed_param') return 'typedParams';
  if (/^remote_node_get_(cpu|memory)_stats$/.test(field.type)) return 'namedNumbers';
  if (classOfWire(field.type) === undefined) return 'value';
  return field.shape === 'counted' ? 'objects' : 'object';
}
