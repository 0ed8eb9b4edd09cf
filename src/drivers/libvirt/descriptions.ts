/**
 * Descriptions that packages and operators leave for QEMU's managers: of programs beside QEMU, and of firmware. Both are
 * found as libvirt finds them.
 *
 * @see docs/interop/vhost-user.json, docs/interop/firmware.json, QEMU; qemu_interop_config.c, libvirt
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { parseJson } from '../../model/json.ts';

/** In the order of their names; none of a folder that is not there. */
export async function descriptionsIn(folder: string): Promise<Record<string, unknown>[]> {
  const descriptions: Record<string, unknown>[] = [];
  for (const name of await namesIn(folder)) {
    const description = await readDescription(join(folder, name));
    if (description !== null) descriptions.push(description);
  }
  return descriptions;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function readDescription(path: string): Promise<Record<string, unknown> | null> {
  try {
    return Object(parseJson(await readFile(path, 'utf8'))) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof AgentError) return null; // no JSON: libvirt leaves it aside, too
    throw error;
  }
}
