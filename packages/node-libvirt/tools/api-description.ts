/**
 * Reads libvirt's description of its public API (libvirt-api.xml and libvirt-qemu-api.xml of libvirt-dev): functions,
 * enums and the names of typed parameters.
 *
 * The files are made by a program of libvirt's, and regular: attributes are in single quotes, elements never nest in
 * their own kind. So they are read with patterns, and an element that lacks what it must have is an error.
 */

export interface ApiArgument {
  name: string;
  /** The C type, for example 'virDomainPtr'. */
  type: string;
  /** libvirt's own words on it. */
  info: string;
}

export interface ApiFunction {
  /** For example virDomainGetInfo. */
  name: string;
  /** The header that declares it, for example libvirt-domain. */
  file: string;
  /** The libvirt that brought it, for example '0.0.3'. */
  since: string;
  args: ApiArgument[];
}

export interface ApiConstant {
  name: string;
  value: number;
  /** One line from libvirt's documentation; empty where it says nothing. */
  meaning: string;
}

export interface ApiDescription {
  functions: ApiFunction[];
  /** C type to its members. */
  enums: Map<string, ApiConstant[]>;
  /** Macro to its text, for those that name things: VIR_DOMAIN_BLOCK_IOTUNE_GROUP_NAME to 'group_name'. */
  names: Map<string, string>;
}

/** @throws {Error} An element lacks what it must have. */
export function readApiDescription(texts: readonly string[]): ApiDescription {
  const xml = texts.join('\n');
  return { functions: readFunctions(xml), enums: readEnums(xml), names: readNames(xml) };
}

function readFunctions(xml: string): ApiFunction[] {
  return [...xml.matchAll(/<function ([^>]*)>([\s\S]*?)<\/function>/g)].map(([, head = '', body = '']) => ({
    name: attribute(head, 'name'),
    file: attribute(head, 'file'),
    since: attribute(head, 'version'),
    args: [...body.matchAll(/<arg ([^>]*)\/>/g)].map(([, text = '']) => ({
      name: attribute(text, 'name'),
      type: attribute(text, 'type'),
      info: attribute(text, 'info'),
    })),
  }));
}

function readEnums(xml: string): Map<string, ApiConstant[]> {
  const raw = [...xml.matchAll(/<enum ([^>]*?)\/>/gs)].map(([, text = '']) => text);
  const values = new Map(raw.map((text) => [attribute(text, 'name'), attribute(text, 'value')]));
  const enums = new Map<string, ApiConstant[]>();
  for (const text of raw) {
    const type = optionalAttribute(text, 'type');
    if (type === undefined) continue;
    const name = attribute(text, 'name');
    const members = enums.get(type) ?? [];
    members.push({
      name,
      value: resolve(name, values),
      meaning: oneLine(optionalAttribute(text, 'info') ?? ''),
    });
    enums.set(type, members);
  }
  return enums;
}

function readNames(xml: string): Map<string, string> {
  return new Map(
    [...xml.matchAll(/<macro ([^>]*)>/g)].flatMap(([, text = '']) => {
      const value = optionalAttribute(text, 'string');
      return value === undefined ? [] : [[attribute(text, 'name'), value] as const];
    }),
  );
}

/** A value is a number or the name of another constant. */
function resolve(name: string, values: Map<string, string>): number {
  const value = values.get(name);
  if (value === undefined) throw new Error(`constant ${name} has no value`);
  return /^-?\d+$/.test(value) ? Number(value) : resolve(value, values);
}

function attribute(text: string, name: string): string {
  const value = optionalAttribute(text, name);
  if (value === undefined) throw new Error(`no ${name} in: ${text.slice(0, 200)}`);
  return value;
}

function optionalAttribute(text: string, name: string): string | undefined {
  const value = new RegExp(`(?:^|\\s)${name}='([^']*)'`).exec(text)?.[1];
  return value?.replace(/&(lt|gt|amp|quot|apos);/g, (_, entity: string) => ENTITIES[entity] ?? '');
}

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** The first sentence of a text, on one line; libvirt's notes on versions are left out. */
function oneLine(text: string): string {
  const line = text
    .replace(/\s*\(?Since:? [\d.]+\)?/g, '')
    .replace(/\s+/g, ' ')
    .trim();
  return /^(.*?[^.]\.)(?: [A-Z]|$)/.exec(line)?.[1] ?? line;
}
