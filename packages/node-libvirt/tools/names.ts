/**
 * The names under which the protocol's parts go in TypeScript.
 *
 * REMOTE_PROC_DOMAIN_GET_INFO becomes `domainGetInfo`, QEMU_PROC_DOMAIN_MONITOR_COMMAND becomes
 * `qemuDomainMonitorCommand`, struct remote_nonnull_domain becomes `NonnullDomain`; fields keep their names.
 */
import type { Field, Procedure, Protocol } from './rpcl.ts';

export const PROGRAMS = ['remote', 'qemu'];

/** Types whose codec is written by hand in src/xdr/codec.ts, with the TypeScript type that they give. */
export const BY_HAND: Record<string, string> = { remote_uuid: 'string', remote_typed_param: 'TypedParam' };

/** RPCL name, name in the schema, TypeScript type. */
export const PRIMITIVES: Record<string, [string, string]> = {
  int: ['int', 'number'],
  'unsigned int': ['uint', 'number'],
  unsigned: ['uint', 'number'],
  char: ['int', 'number'],
  'unsigned char': ['uint', 'number'],
  short: ['int', 'number'],
  'unsigned short': ['uint', 'number'],
  hyper: ['hyper', 'bigint'],
  'unsigned hyper': ['uhyper', 'bigint'],
  double: ['double', 'number'],
};

export interface NamedProcedure {
  program: string;
  /** Its name in TypeScript. */
  name: string;
  /** What the names of its structs start with: remote_domain_get_info. */
  base: string;
  number: number;
  /** a, arguments; r, reply; <, opens a stream to read; >, to write. */
  has: string;
  /** The daemon sends it unasked. */
  isMessage: boolean;
  priority: Procedure['priority'];
}

export function procedures(protocol: Protocol): NamedProcedure[] {
  return PROGRAMS.flatMap((program) =>
    (protocol.procedures.get(program) ?? []).map((procedure) => named(program, procedure, protocol)),
  );
}

function named(program: string, procedure: Procedure, protocol: Protocol): NamedProcedure {
  const short = procedure.symbol.replace(/^[A-Z]+_PROC_/, '').toLowerCase();
  const base = `${program}_${short}`;
  const stream = procedure.stream === 'read' ? '<' : procedure.stream === 'write' ? '>' : '';
  return {
    program,
    name: camel(program === 'remote' ? short : base),
    base,
    number: procedure.number,
    has: `${protocol.structs.has(`${base}_args`) ? 'a' : ''}${protocol.structs.has(`${base}_ret`) ? 'r' : ''}${stream}`,
    isMessage: protocol.structs.has(`${base}_msg`),
    priority: procedure.priority,
  };
}

/** C strings in arrays of char are text. The data of SASL are bytes, which such a type holds, too. */
export function isCharArray(field: Field): boolean {
  return (
    field.type === 'char' && field.name !== 'data' && (field.shape === 'fixed' || field.shape === 'counted')
  );
}

/** @param direction What is given may be read-only, and a number where a bigint comes out. */
export function tsType(field: Field, direction: 'out' | 'in'): string {
  if (field.type === 'string' || isCharArray(field)) return 'string';
  if (field.type === 'opaque') return 'Uint8Array';
  const base = elementType(field, direction);
  if (field.shape === 'optional') return `${base} | null`;
  if (field.shape === 'plain') return base;
  const list = base.includes('|') ? `(${base})[]` : `${base}[]`;
  return direction === 'in' ? `readonly ${list}` : list;
}

function elementType(field: Field, direction: 'out' | 'in'): string {
  const known = BY_HAND[field.type] ?? PRIMITIVES[field.type]?.[1];
  if (known !== undefined) return known === 'bigint' && direction === 'in' ? 'number | bigint' : known;
  return /_type$/.test(field.type) ? 'number' : pascal(field.type);
}

export function camel(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

export function pascal(name: string): string {
  const bare = camel(`_${name.replace(/^remote_/, '')}`);
  return bare.charAt(0).toUpperCase() + bare.slice(1);
}
