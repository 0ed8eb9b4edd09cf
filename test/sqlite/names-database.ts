/** A database of names, as small as can be. */
import { Database, type DatabaseOptions } from '../../src/sqlite/database.ts';

/** @param folder That of its file, or ':memory:'. */
export function openNames(folder: string, options?: DatabaseOptions): Database {
  return new Database(
    {
      folder,
      name: 'test.sqlite',
      folderMode: 0o700,
      owner: 'test',
      setting: 'test',
      migrations: ['CREATE TABLE names (name TEXT PRIMARY KEY) STRICT'],
      cacheKib: 1_024,
      busyTimeoutMs: 0,
    },
    options,
  );
}
