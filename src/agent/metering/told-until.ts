/** The end of the last period whose records were told, in a file beside the database. @see metering.ts */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { strict } from '../../model/common.ts';
import { Type } from '../../model/schema.ts';
import { findFault } from '../../model/validate.ts';
import { writeDurably } from '../../sqlite/set-aside.ts';

const FILE_NAME = 'metering.json';
const ToldUntil = strict({ version: Type.Literal(1), toldUntilMs: Type.Integer({ minimum: 0 }) });

/** Milliseconds since the epoch; null where there is no such file, or none that can be read. */
export function readToldUntil(folder: string): number | null {
  try {
    const value: unknown = JSON.parse(readFileSync(join(folder, FILE_NAME), 'utf8'));
    return findFault(ToldUntil, value) === null ? (value as { toldUntilMs: number }).toldUntilMs : null;
  } catch {
    return null;
  }
}

/** It is behind the database at worst: a crash in the middle of it costs a warning that would have come. */
export function writeToldUntil(folder: string, toldUntilMs: number): void {
  writeDurably(join(folder, FILE_NAME), `${JSON.stringify({ version: 1, toldUntilMs })}\n`);
}
