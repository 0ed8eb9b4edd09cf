/**
 * Writes src/protocol/schema.gen.ts (what the codec reads at run time) and src/protocol/types.gen.ts (types only: never
 * loaded at run time).
 */
import type { ApiDescription } from './api-description.ts';
import type { Plan } from './api-plan.ts';
import {
  BY_HAND,
  isCharArray,
  type NamedProcedure,
  pascal,
  PRIMITIVES,
  PROGRAMS,
  procedures,
  tsType,
} from './names.ts';
import type { Field, Protocol } from './rpcl.ts';

export function schemaSource(protocol: Protocol, plan: Plan, version: string, heading: string): string {
  const since = new Map(plan.methods.map((method) => [method.procedure.name, method.function.since]));
  const lines = [heading];
  lines.push(`export const PROTOCOL_VERSION = '${version}';\n`);
  lines.push('/** Program name to its number and version. */');
  const numbers = PROGRAMS.map((p) => `${p}: ${hex(protocol.constants.get(`${p.toUpperCase()}_PROGRAM`))}`);
  lines.push(`export const PROGRAMS = { ${numbers.join(', ')} } as const;\n`);
  lines.push(
    '/** Type name to its fields, "name type;name type", or to "=type" for another name of a type. */',
  );
  lines.push('export const TYPES: Readonly<Record<string, string>> = {', ...schemaTypes(protocol), '};\n');
  lines.push(
    '/**',
    ' * Procedure to "program base number has since": a, arguments; r, reply; <, opens a stream to read; >, to write; and',
    ' * the libvirt that brought it, where libvirt says.',
    ' */',
  );
  lines.push('export const PROCEDURES: Readonly<Record<string, string>> = {');
  for (const call of procedures(protocol).filter((p) => !p.isMessage))
    lines.push(`${call.name}:'${schemaProcedure(call, since.get(call.name))}',`);
  lines.push('};\n');
  lines.push('/** Messages that the daemon sends unasked: "program number" to name and base. */');
  lines.push('export const MESSAGES: Readonly<Record<string, readonly [string, string]>> = {');
  for (const message of procedures(protocol).filter((p) => p.isMessage))
    lines.push(`'${message.program} ${message.number}':['${message.name}','${message.base}'],`);
  lines.push('};', '');
  return lines.join('\n');
}

function schemaTypes(protocol: Protocol): string[] {
  const isGenerated = ([name]: readonly [string, unknown]) => !(name in BY_HAND);
  const typedefs = [...protocol.typedefs].filter(isGenerated);
  const structs = [...protocol.structs].filter(isGenerated);
  return [
    ...typedefs.map(([name, field]) => `${name}:'=${layout(field, protocol)}',`),
    ...structs.map(
      ([name, fields]) => `${name}:'${fields.map((f) => `${f.name} ${layout(f, protocol)}`).join(';')}',`,
    ),
  ];
}

function schemaProcedure({ program, base, number, has }: NamedProcedure, since: string | undefined): string {
  return `${program} ${base} ${number} ${has}${since === undefined ? '' : ` ${since}`}`;
}

export function typesSource(protocol: Protocol, heading: string): string {
  const lines = [heading, "import type { TypedParam } from '../typed-params.ts';\n"];
  for (const [name, declared] of protocol.typedefs)
    if (!(name in BY_HAND)) lines.push(`export type ${pascal(name)} = ${tsType(declared, 'out')};`);
  for (const [name, fields] of protocol.structs)
    if (!(name in BY_HAND)) lines.push(`export interface ${pascal(name)} { ${members(name, fields)} }`);
  lines.push('\n/** Arguments and reply of each procedure; `void` where there are none. */');
  lines.push('export interface Procedures {');
  for (const call of procedures(protocol).filter((p) => !p.isMessage)) {
    const args = call.has.includes('a') ? pascal(`${call.base}_args`) : 'void';
    const reply = call.has.includes('r') ? pascal(`${call.base}_ret`) : 'void';
    lines.push(`  ${call.name}: { args: ${args}; reply: ${reply} };`);
  }
  lines.push(
    '}\n',
    '/** Body of each message that the daemon sends unasked. */',
    'export interface Messages {',
  );
  for (const message of procedures(protocol).filter((p) => p.isMessage))
    lines.push(`  ${message.name}: ${pascal(`${message.base}_msg`)};`);
  lines.push('}', '');
  return lines.join('\n');
}

function members(struct: string, fields: Field[]): string {
  const direction = struct.endsWith('_args') ? 'in' : 'out';
  return fields.map((field) => `${field.name}: ${tsType(field, direction)}`).join('; ');
}

/** A field's type in the schema: "int", "?type", "type<16>", "type[3]". */
function layout(field: Field, protocol: Protocol): string {
  if (protocol.unions.has(field.type)) throw new Error(`union ${field.type} has no codec written by hand`);
  const base = protocol.enums.has(field.type) ? 'int' : (PRIMITIVES[field.type]?.[0] ?? field.type);
  if (field.shape === 'optional') return `?${base}`;
  const type = isCharArray(field) ? 'chars' : base;
  if (field.shape === 'counted') return `${type}<${field.size}>`;
  return field.shape === 'fixed' ? `${type}[${field.size}]` : type;
}

/**
 * Writes src/typed-params.gen.ts: the type of each typed parameter that callers give by name.
 *
 * @param pairs Lines "VIR_MACRO VIR_TYPED_PARAM_TYPE", found in libvirt's source.
 * @throws {Error} One name has two types.
 */
export function typedParamsSource(pairs: string, { names }: ApiDescription, heading: string): string {
  const types = new Map<string, string>();
  for (const [, macro = '', cType = ''] of pairs.matchAll(/^(\w+) VIR_TYPED_PARAM_(\w+)$/gm)) {
    const name = names.get(macro);
    const type = cType === 'UNSIGNED' ? 'uint' : cType.toLowerCase();
    if (name === undefined) continue; // not of the public API
    if ((types.get(name) ?? type) !== type) throw new Error(`${name} is ${type} and ${types.get(name)}`);
    types.set(name, type);
  }
  const order = [...types.keys()].toSorted();
  const groups = [...new Set(types.values())].toSorted().map((type) => {
    const names = order.filter((name) => types.get(name) === type);
    return `  ${type}:\n    '${names.join(' ')}',`;
  });
  return `${heading}
/** The type that libvirt wants for each parameter: type to names. */
export const TYPED_PARAM_NAMES = {
${groups.join('\n')}
} as const;
`;
}

function hex(value: number | undefined): string {
  if (value === undefined) throw new Error('a program number is missing');
  return `0x${value.toString(16)}`;
}
