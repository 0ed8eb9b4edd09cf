/**
 * Reads XML, of libvirt or of anybody: elements by name, attributes, and text. Pure.
 *
 * Entities are decoded here and not by the parser, whose limit on their number a long text of ours would reach.
 */
import { XMLParser } from 'fast-xml-parser';
import { AgentError } from '../../model/errors.ts';

/** Attributes under '@name', text under '#text', children in lists by name. */
export interface XmlElement {
  readonly [name: string]: string | readonly XmlElement[] | undefined;
}

/** The largest text that libvirt can send is 4 MiB. @see remote_protocol.x, REMOTE_STRING_MAX */
const XML_LENGTH_LIMIT = 4 * 1024 * 1024;

const OPTIONS = {
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  alwaysCreateTextNode: true,
  trimValues: false,
  parseTagValue: false,
  parseAttributeValue: false,
  processEntities: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
  isArray: (_name: string, _path: unknown, _isLeaf: boolean, isAttribute: boolean) => !isAttribute,
};
const PARSERS = {
  kept: new XMLParser(OPTIONS),
  dropped: new XMLParser({ ...OPTIONS, removeNSPrefix: true }),
};

/**
 * @param prefixes What becomes of the prefixes of names, as `ovf:` in `ovf:id`.
 * @returns The document, whose children are the elements that have no parent.
 * @throws {AgentError} INTERNAL: it is not XML, or too long.
 */
export function parseXml(text: string, prefixes: keyof typeof PARSERS): XmlElement {
  if (text.length > XML_LENGTH_LIMIT) throw new AgentError('INTERNAL', 'Cannot read XML of more than 4 MiB');
  try {
    return PARSERS[prefixes].parse(text, true) as XmlElement;
  } catch (error) {
    throw new AgentError('INTERNAL', 'Cannot read XML', { cause: error });
  }
}

/**
 * @returns The root element.
 * @throws {AgentError} INTERNAL: it is not XML with one root, which libvirt never sends.
 */
export function readXml(text: string): XmlElement {
  const roots = Object.values(parseXml(text, 'kept')).filter((value) => Array.isArray(value));
  const root = (roots[0] as readonly XmlElement[] | undefined)?.[0];
  if (root === undefined) throw new AgentError('INTERNAL', 'Cannot read XML without an element');
  return root;
}

/** Elements reached by following the names, in document order. */
export function elementsAt(root: XmlElement, ...path: readonly string[]): readonly XmlElement[] {
  return path.reduce<readonly XmlElement[]>(
    (elements, name) => elements.flatMap((element) => childrenOf(element, name)),
    [root],
  );
}

/** An attribute's value, decoded; null when there is none. */
export function attributeOf(element: XmlElement, name: string): string | null {
  const value = element[`@${name}`];
  return typeof value === 'string' ? decodeEntities(value) : null;
}

/** The element's own text, decoded. */
export function textOf(element: XmlElement): string {
  const text = element['#text'];
  return typeof text === 'string' ? decodeEntities(text) : '';
}

const NAMED_ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** Decodes the five entities of XML and character references; what is neither stays as it is. */
export function decodeEntities(text: string): string {
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z]{2,4}));/gi, (whole, hex, decimal, name) => {
    if (name !== undefined) return NAMED_ENTITIES[name] ?? whole;
    const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function childrenOf(element: XmlElement, name: string): readonly XmlElement[] {
  const children = element[name];
  return typeof children === 'object' ? children : [];
}
