/**
 * Seals: a checksum of each row, kept in the row, so that a byte that was changed by the disk or by hand is
 * found even where the row is still a good row.
 *
 * Theory of operation: every table that has an integer column `seal` is sealed. Triggers of the connection
 * (temporary ones: other programs can still read and write the file) set it after each insert and update, from
 * all other columns in their order. `brokenSeals` counts the rows whose seal is another. CRC-32 finds every
 * change of up to 32 adjacent bits; it is no defence against somebody who means harm.
 */
import { crc32 } from 'node:zlib';
import type Sqlite from 'better-sqlite3';

const SEAL_COLUMN = 'seal';
const SEAL_FUNCTION = 'berth_seal';

/** Makes the function known to a connection; before anything else here. */
export function defineSeal(sqlite: Sqlite.Database): void {
  sqlite.function(SEAL_FUNCTION, { varargs: true, deterministic: true }, (...values: unknown[]) =>
    crc32(JSON.stringify(values)),
  );
}

/** From now on every row that this connection writes is sealed. */
export function sealWrites(sqlite: Sqlite.Database): void {
  sqlite.pragma('temp_store = MEMORY');
  for (const table of sealedTables(sqlite)) {
    for (const change of ['INSERT', 'UPDATE']) sqlite.exec(triggerOf(table, change));
  }
}

/** Seals every row anew, as after the columns have changed; within a transaction. */
export function sealAllRows(sqlite: Sqlite.Database): void {
  for (const { name, columns } of sealedTables(sqlite)) {
    sqlite.exec(`UPDATE main.${quoted(name)} SET ${SEAL_COLUMN} = ${sealOf(columns, '')}`);
  }
}

/** Number of rows in the table that are not as they were written; 0 where it is not sealed. */
export function brokenSeals(sqlite: Sqlite.Database, table: string): number {
  const sealed = sealedTables(sqlite).find(({ name }) => name === table);
  if (sealed === undefined) return 0;
  const row = sqlite
    .prepare(`SELECT count(*) AS broken FROM main.${quoted(table)} WHERE NOT ${intact(sealed)}`)
    .get() as { broken: number };
  return row.broken;
}

/** The condition that a row is as it was written, for a query; null where the table is not sealed. */
export function intactRows(sqlite: Sqlite.Database, table: string): string | null {
  const sealed = sealedTables(sqlite).find(({ name }) => name === table);
  return sealed === undefined ? null : intact(sealed);
}

interface SealedTable {
  name: string;
  /** All but the seal, in their order. */
  columns: string[];
  key: string[];
}

function sealedTables(sqlite: Sqlite.Database): SealedTable[] {
  const tables = sqlite
    .prepare("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all() as { name: string }[];
  return tables.flatMap(({ name }) => {
    const columns = sqlite.pragma(`main.table_info(${quoted(name)})`) as { name: string; pk: number }[];
    if (!columns.some((column) => column.name === SEAL_COLUMN)) return [];
    const key = columns.filter(({ pk }) => pk > 0).map((column) => column.name);
    const others = columns.map((column) => column.name).filter((column) => column !== SEAL_COLUMN);
    return [{ name, columns: others, key }];
  });
}

/** It does not call itself again for its own update: recursive triggers are off, as is SQLite's default. */
function triggerOf({ name, columns, key }: SealedTable, change: string): string {
  const same = key.map((column) => `${quoted(column)} IS NEW.${quoted(column)}`).join(' AND ');
  return `CREATE TEMP TRIGGER ${quoted(`seal_${name}_${change}`)} AFTER ${change} ON main.${quoted(name)}
    BEGIN UPDATE ${quoted(name)} SET ${SEAL_COLUMN} = ${sealOf(columns, 'NEW.')} WHERE ${same}; END`;
}

function intact({ columns }: SealedTable): string {
  return `(${SEAL_COLUMN} IS ${sealOf(columns, '')})`;
}

function sealOf(columns: string[], prefix: string): string {
  return `${SEAL_FUNCTION}(${columns.map((column) => prefix + quoted(column)).join(', ')})`;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
