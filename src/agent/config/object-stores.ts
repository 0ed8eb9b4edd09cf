/**
 * The two forms of an object store in the configuration, a bucket and a folder: which one a section has, and what it lacks
 * or has too much of. Pure.
 */
import type { AgentError } from '../../model/errors.ts';
import type { Config } from './schema.ts';

type Section = Config['objects'][number];
type Key = keyof Section;

/** What a bucket can't be reached without. */
const NEEDED = ['endpoint', 'bucket', 'credentialsFile'] as const;
/** What says nothing of a folder. */
const OF_BUCKETS: readonly Key[] = [...NEEDED, 'region', 'pathStyle', 'caFile'];
/** Each may hold up two threads of those that Node has for files. @see drivers/folder/gate.ts */
const FOLDERS_LIMIT = 4;

export type BucketSection = Section & Required<Pick<Section, (typeof NEEDED)[number]>>;
export type FolderSection = Section & Required<Pick<Section, 'path'>>;

export function isFolder(section: Section): section is FolderSection {
  return section.path !== undefined;
}

export function isBucket(section: Section): section is BucketSection {
  return !isFolder(section);
}

/**
 * @param given The sections as they were written, without defaults.
 * @throws {AgentError} As `fault` makes it.
 */
export function checkStores(
  given: readonly object[] = [],
  fault: (path: string[], message: string) => AgentError,
): void {
  for (const [place, section] of given.entries()) {
    const path = ['objects', String(place)];
    const missing = NEEDED.find((key) => !(key in section));
    const odd = OF_BUCKETS.find((key) => key in section);
    if ('path' in section && odd !== undefined)
      throw fault([...path, odd], `${odd} is of a bucket, and path makes the store a folder: take one away`);
    if (!('path' in section) && missing !== undefined)
      throw fault(path, `${missing} is missing${missing === 'endpoint' ? ', or path, for a folder' : ''}`);
  }
  if (given.filter((section) => 'path' in section).length > FOLDERS_LIMIT)
    throw fault(['objects'], `more than ${FOLDERS_LIMIT} folders`);
}
