/**
 * Cloud-config, read as strictly as a guest never does: pure.
 *
 * cloud-init drops a document that it can't read and boots on, so that a tab or a key that is there twice becomes a guest
 * that nobody can log in to. Here it is refused with its place before anything is made. What is refused:
 *
 *   characters that YAML does not have, tabs as indentation, bad indentation, open quotes and brackets
 *   a key that is there twice (the parsers of guests take the last one, and say nothing)
 *   tags beyond YAML's own, more than one document, a document that is no mapping (a list, for an archive)
 *   aliases that lead nowhere or into themselves, and those that unpack to more nodes than NODES_LIMIT
 *   what is nested deeper than DEPTH_LIMIT
 *
 * The text may hold secrets: no reason repeats anything of it, not even in the parser's own words.
 */
import {
  type Alias,
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml';

/** Real ones have hundreds; more unpack from aliases only. Nodes. */
const NODES_LIMIT = 50_000;
/** Real ones have about 6; PyYAML overflows its stack at some hundreds. */
const DEPTH_LIMIT = 64;

/** The first thing that is wrong, in words that hold nothing of the text. */
export interface YamlFault {
  /** From 1. */
  line: number;
  /** From 1, in characters. */
  column: number;
  reason: string;
}

/** Everything that PyYAML's reader takes. @see yaml/reader.py, NON_PRINTABLE */
const FORBIDDEN = /[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

const REASONS: Readonly<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias has a tag or an anchor',
  BAD_ALIAS: 'an alias has no name that is allowed',
  BAD_COLLECTION_TYPE: 'a tag does not fit its value',
  BAD_DIRECTIVE: 'a directive is none',
  BAD_DQ_ESCAPE: 'a double-quoted text has an escape that YAML does not know',
  BAD_INDENT: 'the indentation fits nothing above it',
  BAD_PROP_ORDER: 'a tag or an anchor is in the wrong place',
  BAD_SCALAR_START: 'a text begins with a character that is reserved; quote it',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping or a list begins where a value has to be; quote a text that holds ": "',
  BLOCK_IN_FLOW: 'a block is within brackets',
  DUPLICATE_KEY: 'this key is there twice',
  IMPOSSIBLE: 'it is not YAML',
  KEY_OVER_1024_CHARS: 'a key is longer than 1024 characters',
  MISSING_CHAR: 'a character is missing: a closing quote or bracket, a colon, or a space',
  MULTILINE_IMPLICIT_KEY: 'a key goes over several lines',
  MULTIPLE_ANCHORS: 'a value has more than one anchor',
  MULTIPLE_DOCS: 'a second document begins',
  MULTIPLE_TAGS: 'a value has more than one tag',
  NON_STRING_KEY: 'a key is no text',
  RESOURCE_EXHAUSTION: `it is nested deeper than ${DEPTH_LIMIT}`,
  TAB_AS_INDENT: 'a tab is used as indentation; YAML takes spaces alone',
  TAG_RESOLVE_FAILED: "a tag is none of YAML's own",
  UNEXPECTED_TOKEN: 'something is here that fits nothing before it',
};

/** The first fault of a cloud-config, or of an archive of several; null where there is none. */
export function findYamlFault(text: string, top: 'mapping' | 'list'): YamlFault | null {
  const counter = new LineCounter();
  const at = (offset: number, reason: string): YamlFault => {
    const { line, col } = counter.linePos(offset);
    return { line, column: col, reason };
  };
  const forbidden = text.search(FORBIDDEN);
  if (forbidden !== -1) return atOf(text, forbidden, 'a character is here that YAML does not have');
  // Keys that are there twice are looked for below: the parser takes quadratic time to.
  const document = parseDocument(text, {
    version: '1.1',
    strict: true,
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'error',
    lineCounter: counter,
  });
  const [first] = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0]);
  if (first !== undefined) return at(first.pos[0], REASONS[first.code] ?? REASONS.IMPOSSIBLE);
  const fault = faultOfTop(document, top) ?? new Weighing().faultIn(document.contents as Node);
  return fault === null ? null : at(fault.offset, fault.reason);
}

function atOf(text: string, offset: number, reason: string): YamlFault {
  const before = text.slice(0, offset).split('\n');
  return { line: before.length, column: (before.at(-1) as string).length + 1, reason };
}

interface Fault {
  offset: number;
  reason: string;
}

function faultOfTop({ contents }: Document, top: 'mapping' | 'list'): Fault | null {
  if (contents === null) return { offset: 0, reason: 'it holds nothing but comments' };
  const fits = top === 'mapping' ? isMap(contents) : isSeq(contents);
  return fits ? null : { offset: offsetOf(contents), reason: `it is no ${top} at its top` };
}

/** Breaks off the walk at the first fault. */
class Found extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super(fault.reason);
    this.fault = fault;
  }
}

/** Counts the nodes that a document unpacks to, every alias as what it stands for. */
class Weighing {
  /** By anchor; null while the node that bears it is not over. */
  readonly #weights = new Map<string, number | null>();

  faultIn(top: Node): Fault | null {
    try {
      this.#weigh(top, 0);
      return null;
    } catch (error) {
      if (error instanceof Found) return error.fault;
      throw error;
    }
  }

  #weigh(node: unknown, depth: number): number {
    if (isAlias(node)) return this.#weightOf(node);
    const { anchor } = node as { anchor?: string };
    if (anchor !== undefined) this.#weights.set(anchor, null);
    if (depth > DEPTH_LIMIT) throw new Found({ offset: offsetOf(node), reason: REASONS.RESOURCE_EXHAUSTION });
    let weight = 1;
    for (const child of childrenOf(node)) weight += this.#weigh(child, depth + 1);
    if (weight > NODES_LIMIT)
      throw new Found({ offset: offsetOf(node), reason: `it unpacks to more than ${NODES_LIMIT} values` });
    if (anchor !== undefined) this.#weights.set(anchor, weight);
    return weight;
  }

  #weightOf(alias: Alias): number {
    const weight = this.#weights.get(alias.source);
    const offset = offsetOf(alias);
    if (weight === undefined) throw new Found({ offset, reason: 'an alias stands for nothing before it' });
    if (weight === null) throw new Found({ offset, reason: 'an alias stands within what it stands for' });
    return weight;
  }
}

function childrenOf(node: unknown): unknown[] {
  if (isMap(node)) {
    assertUniqueKeys(node);
    return node.items.flatMap((pair) => [pair.key, pair.value]).filter((child) => child !== null);
  }
  if (isPair(node)) return [node.key, node.value].filter((child) => child !== null);
  return isSeq(node) ? node.items : [];
}

function assertUniqueKeys({ items }: YAMLMap): void {
  const seen = new Set<string>();
  for (const { key } of items as Pair[]) {
    if (!isScalar(key)) continue;
    const name = `${typeof key.value} ${String(key.value)}`;
    if (seen.has(name)) throw new Found({ offset: offsetOf(key), reason: REASONS.DUPLICATE_KEY });
    seen.add(name);
  }
}

function offsetOf(node: unknown): number {
  return (node as { range?: [number, number, number] | null }).range?.[0] ?? 0;
}
