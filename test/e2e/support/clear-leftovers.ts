/**
 * Removes the guests that a test run has left behind when it was killed: their names would be taken, and a guest that
 * runs takes a core. Those of a run that goes on are left alone.
 *
 *   node test/e2e/support/clear-leftovers.ts
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { NODE_FOLDER, OWNER_FILE } from './owner.ts';

const NAME = /^berth-e2e(?:-|$)/;

function virsh(...args: string[]): string {
  return execFileSync('virsh', ['-q', '-c', 'qemu:///system', ...args], { encoding: 'utf8' });
}

/** The folder of the node that has made it; null where it names none. */
function folderOf(domain: string): string | null {
  return NODE_FOLDER.exec(virsh('dumpxml', domain))?.[0] ?? null;
}

function isOwned(folder: string): boolean {
  const owner = join(folder, OWNER_FILE);
  return existsSync(owner) && existsSync(`/proc/${readFileSync(owner, 'utf8')}`);
}

for (const domain of virsh('list', '--all', '--name').split('\n')) {
  if (!NAME.test(domain)) continue;
  const folder = folderOf(domain);
  if (folder !== null && isOwned(folder)) continue;
  if (virsh('domstate', domain).trim() !== 'shut off') virsh('destroy', domain);
  virsh('undefine', '--nvram', '--managed-save', '--snapshots-metadata', '--checkpoints-metadata', domain);
  if (folder !== null) rmSync(folder, { recursive: true, force: true });
  console.error(`removed ${domain}, which a test run has left behind`);
}
