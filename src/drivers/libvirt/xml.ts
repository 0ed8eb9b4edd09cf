/**
 * Writes XML: every value is escaped here, and nowhere else.
 *
 * Promise: what is written parses back to exactly the values that were given, or is refused.
 */
import { AgentError } from '../../model/errors.ts';

/** An element; children are elements, or one text. */
export interface XmlNode {
  name: string;
  attributes: Readonly<Record<string, string | number>>;
  children: readonly XmlNode[] | string;
}

/** Attributes whose value is undefined are left out. */
export type XmlAttributes = Readonly<Record<string, string | number | undefined>>;

/** Makes an element. Names come from this program's own code, values from anywhere. */
export function xml(
  name: string,
  attributes: XmlAttributes = {},
  children: readonly XmlNode[] | string = [],
): XmlNode {
  const given = Object.entries(attributes).filter(
    (entry): entry is [string, string | number] => entry[1] !== undefined,
  );
  return { name, attributes: Object.fromEntries(given), children };
}

/** Writes an element and its children, indented, with a line break at the end. */
export function writeXml(node: XmlNode, indent = ''): string {
  const attributes = Object.entries(node.attributes)
    .map(([name, value]) => ` ${name}='${escapeXml(String(value))}'`)
    .join('');
  const open = `${indent}<${node.name}${attributes}`;
  if (node.children.length === 0) return `${open}/>\n`;
  if (typeof node.children === 'string') return `${open}>${escapeXml(node.children)}</${node.name}>\n`;
  const inner = node.children.map((child) => writeXml(child, `${indent}  `)).join('');
  return `${open}>\n${inner}${indent}</${node.name}>\n`;
}

/** What XML 1.0 cannot hold, even escaped. @see XML 1.0, production 2 (Char) */
const FORBIDDEN = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;

/** Line breaks and tabs are written as references: parsers turn them into spaces within attributes. */
const REFERENCES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '\t': '&#9;',
  '\n': '&#10;',
  '\r': '&#13;',
};

/**
 * Escapes text for an element or an attribute.
 *
 * @throws {AgentError} INVALID_ARGUMENT: it holds a character that no XML can hold.
 */
export function escapeXml(text: string): string {
  const forbidden = FORBIDDEN.exec(text)?.[0];
  if (forbidden !== undefined) {
    const code = forbidden.codePointAt(0)?.toString(16).padStart(4, '0');
    throw new AgentError(
      'INVALID_ARGUMENT',
      `Cannot write the character U+${code} into a guest's definition`,
    );
  }
  return text.replace(/[&<>"'\t\n\r]/g, (character) => REFERENCES[character] ?? character);
}
