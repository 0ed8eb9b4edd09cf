/** Whose the folder of a test's node is: so that what a killed run has left behind can be told from what is in use. */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const FOLDER_PREFIX = 'berth-e2e-';
/** Where it is named in a guest's definition. */
export const NODE_FOLDER = new RegExp(`${join(tmpdir(), FOLDER_PREFIX)}[A-Za-z0-9]{6}(?=/)`);
export const OWNER_FILE = 'owner';

export function own(folder: string): void {
  writeFileSync(join(folder, OWNER_FILE), String(process.pid));
}
