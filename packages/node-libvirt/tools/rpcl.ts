/**
 * Parser of the part of RPCL (the XDR language of RFC 4506 and RFC 5531) that libvirt's .x files use.
 *
 * Promises: everything in a file is either understood or refused with the text where it stopped; nothing is skipped.
 * Unions are recognised but not described, since the one union there is (remote_typed_param_value) has a codec
 * written by hand in src/xdr/codec.ts.
 */

/** How one field is laid out: a value, an optional value, a counted array, or an array of fixed length. */
export interface Field {
  name: string;
  type: string;
  shape: 'plain' | 'optional' | 'counted' | 'fixed';
  /** Largest or exact element count; 0 where the shape has none. */
  size: number;
}

/** What one procedure's annotations in the comment before it say. */
export interface Procedure {
  /** For example REMOTE_PROC_DOMAIN_GET_INFO. */
  symbol: string;
  number: number;
  stream: 'read' | 'write' | null;
  /** Whether libvirt's authors promise that it takes a bounded time, and never waits for a hypervisor. */
  priority: 'high' | 'low';
}

/** All that a set of .x files declares. */
export interface Protocol {
  constants: Map<string, number>;
  structs: Map<string, Field[]>;
  typedefs: Map<string, Field>;
  enums: Set<string>;
  unions: Set<string>;
  procedures: Map<string, Procedure[]>;
}

/** Constants that the .x files take from libvirt's public headers. @see libvirt-host.h */
const HEADER_CONSTANTS: [string, number][] = [
  ['VIR_UUID_BUFLEN', 16],
  ['VIR_SECURITY_MODEL_BUFLEN', 257],
  ['VIR_SECURITY_LABEL_BUFLEN', 4097],
  ['VIR_SECURITY_DOI_BUFLEN', 257],
];

/** Size of a counted array whose declaration gives none: any 32-bit count. */
const UNLIMITED = 0xffff_ffff;

const DECLARATION =
  /\s*(?:const (\w+)\s*=\s*([^;]+);|typedef ([^;]+);|enum (\w+) \{([\s\S]*?)\};|struct (\w+) \{([\s\S]*?)\};|union (\w+) switch \(\w+ \w+\) \{[\s\S]*?\};|$)/y;

export function emptyProtocol(): Protocol {
  return {
    constants: new Map(HEADER_CONSTANTS),
    structs: new Map(),
    typedefs: new Map(),
    enums: new Set(),
    unions: new Set(),
    procedures: new Map(),
  };
}

/**
 * Adds the declarations of one file's text.
 *
 * @throws {Error} What could not be understood, with the text at that place.
 */
export function parseRpcl(text: string, into: Protocol): void {
  const notes = annotations(text);
  const bare = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^%.*$/gm, '');
  DECLARATION.lastIndex = 0;
  while (DECLARATION.lastIndex < bare.length) {
    const at = DECLARATION.lastIndex;
    const match = DECLARATION.exec(bare);
    if (match === null) throw new Error(`cannot parse: ${bare.slice(at, at + 120)}`);
    declare(match, into, notes);
  }
}

function declare(match: RegExpExecArray, into: Protocol, notes: Map<string, Annotations>): void {
  const [, constant, value, typedef, enumName, enumBody, structName, structBody, union] = match;
  if (constant !== undefined) into.constants.set(constant, number(value ?? '', into));
  if (typedef !== undefined) declareTypedef(field(typedef, into), into);
  if (enumName !== undefined) declareEnum(enumName, enumBody ?? '', into, notes);
  if (structName !== undefined)
    into.structs.set(
      structName,
      statements(structBody ?? '').map((s) => field(s, into)),
    );
  if (union !== undefined) into.unions.add(union);
}

function declareTypedef(declared: Field, into: Protocol): void {
  into.typedefs.set(declared.name, declared);
}

function declareEnum(name: string, body: string, into: Protocol, notes: Map<string, Annotations>): void {
  let next = 0;
  const members: Procedure[] = [];
  for (const part of body
    .split(',')
    .map((s) => s.trim())
    .filter(Boolean)) {
    const [symbol = '', value] = part.split('=').map((s) => s.trim());
    const member = value === undefined ? next : number(value, into);
    into.constants.set(symbol, member);
    members.push({ symbol, number: member, ...(notes.get(symbol) ?? { stream: null, priority: 'low' }) });
    next = member + 1;
  }
  if (name.endsWith('_procedure')) into.procedures.set(name.replace(/_procedure$/, ''), members);
  else into.enums.add(name);
}

type Annotations = Pick<Procedure, 'stream' | 'priority'>;

/** What the comment before each procedure says: "@readstream: 1", "@priority: high". */
function annotations(text: string): Map<string, Annotations> {
  const found = new Map<string, Annotations>();
  for (const [, comment = '', symbol = ''] of text.matchAll(
    /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(\w+_PROC_\w+) = \d+/g,
  )) {
    const direction = /@(read|write)stream:/.exec(comment)?.[1];
    const stream = direction === 'read' || direction === 'write' ? direction : null;
    found.set(symbol, { stream, priority: /@priority: high/.test(comment) ? 'high' : 'low' });
  }
  return found;
}

function statements(body: string): string[] {
  return body
    .split(';')
    .map((s) => s.trim())
    .filter(Boolean);
}

function field(declaration: string, protocol: Protocol): Field {
  const match = /^((?:unsigned )?[A-Za-z_]\w*)\s*(\*?)\s*([A-Za-z_]\w*)\s*(?:([<[])([^>\]]*)[>\]])?$/.exec(
    declaration.trim().replace(/\s+/g, ' '),
  );
  if (match === null) throw new Error(`cannot parse field: ${declaration}`);
  const [, type = '', star, name = '', bracket, size] = match;
  const shape = star ? 'optional' : bracket === '<' ? 'counted' : bracket === '[' ? 'fixed' : 'plain';
  return { name, type, shape, size: bracket ? number(size ?? '', protocol) : 0 };
}

function number(text: string, protocol: Protocol): number {
  const word = text.trim();
  if (word === '') return UNLIMITED;
  if (/^(0x[0-9a-f]+|-?\d+)$/i.test(word)) return Number(word);
  const known = protocol.constants.get(word);
  if (known === undefined) throw new Error(`unknown constant ${word}`);
  return known;
}
