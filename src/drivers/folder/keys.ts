/** Keys of objects as places in the tree, and the way back: pure. */
import { isKey } from '../../model/objects.ts';

export const OBJECTS = 'objects';
/** Ends the name of a file that is an object: in no key, so no folder has it. */
const OBJECT_SUFFIX = '@';

export interface Place {
  /** Below the root. */
  folder: readonly string[];
  name: string;
}

export function placeOf(key: string): Place {
  const parts = key.split('/');
  return { folder: [OBJECTS, ...parts.slice(0, -1)], name: parts.at(-1) + OBJECT_SUFFIX };
}

/** Something in a folder: an object, or a folder of others, whose part of the key ends with a slash. */
export interface Child {
  name: string;
  /** What it adds to the key. */
  part: string;
  kind: 'object' | 'folder';
}

interface Entry {
  name: string;
  isFile(): boolean;
  isDirectory(): boolean;
}

/** Those that may be ours, in the order of their keys. What else lies there is passed over. */
export function childrenOf(entries: readonly Entry[]): Child[] {
  const children = entries.map(childOf).filter((child) => child !== null);
  return children.sort((a, b) => (a.part < b.part ? -1 : 1));
}

function childOf(entry: Entry): Child | null {
  const { name } = entry;
  if (entry.isDirectory() && isKey(name)) return { name, part: `${name}/`, kind: 'folder' };
  const part = name.slice(0, -OBJECT_SUFFIX.length);
  if (entry.isFile() && name.endsWith(OBJECT_SUFFIX) && isKey(part)) return { name, part, kind: 'object' };
  return null;
}

/** Whether a folder may have keys that begin with `prefix` and come after `after`. @param start With its slash. */
export function mayHave(start: string, { prefix, after }: { prefix: string; after: string }): boolean {
  if (!start.startsWith(prefix) && !prefix.startsWith(start)) return false;
  return after < start || after.startsWith(start);
}
