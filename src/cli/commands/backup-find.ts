/** Which backup a command is about. */
import type { Backup } from '../../model/backup.ts';
import { CliError, EXIT } from '../failure.ts';
import type { ArgumentSpec, Given, OptionSpec } from '../leaf.ts';
import type { Session } from '../session.ts';

export const STORE: OptionSpec = {
  flag: 'store',
  value: 'store',
  summary: 'object store (default: the only one)',
};
export const BACKUP: ArgumentSpec = {
  name: 'backup',
  summary: 'id of the backup, as `berth backup list` tells it',
};

/** A backup is asked for by its id alone; the store knows whose it is. */
export async function findBackup(session: Session, given: Given): Promise<Backup> {
  const id = given.argument('backup');
  const { backups } = await session.client.call('backup.list', { ...storeOf(given), id });
  const [found] = backups;
  if (found !== undefined) return found;
  throw absent(`There is no backup ${id}`);
}

export function absent(message: string): CliError {
  return new CliError(EXIT.failed, 'NOT_FOUND', message, { hint: 'List them with `berth backup list`.' });
}

export function storeOf(given: Given): { store?: string } {
  const store = given.text('store');
  return store === undefined ? {} : { store };
}
