/**
 * What the firmware of this host keeps its variables in, by the descriptions that libvirt chooses from as well.
 *
 * A build of OVMF has code and variables in one flash, at places that it is built with: variables of another size make a
 * guest that hangs before it says a word. Builds differ: of 2 MiB, with 128 KiB of variables, and of 4 MiB, with 528 KiB.
 *
 * @see OvmfPkg/Include/Fdf/OvmfPkgDefines.fdf.inc, edk2; qemuFirmwareFetchConfigs, libvirt
 */
import { stat } from 'node:fs/promises';
import { descriptionsIn } from './descriptions.ts';

const FOLDERS = ['/etc/qemu/firmware', '/usr/share/qemu/firmware'];

/** Sizes, in bytes, of all raw templates of variables; none where the host describes none. */
export async function variableSizes(folders: readonly string[] = FOLDERS): Promise<number[]> {
  const described = await Promise.all(folders.map(descriptionsIn));
  const sizes = new Set<number>();
  for (const path of described.flat().flatMap(templateOf)) {
    const size = await sizeOf(path);
    if (size !== null) sizes.add(size);
  }
  return [...sizes];
}

/** None in one that tells of no flash, or is empty, as one is by which an operator hides another. */
function templateOf({ mapping }: Record<string, unknown>): string[] {
  const { filename, format } = Object(Object(mapping)['nvram-template']) as Record<string, unknown>;
  return format === 'raw' && typeof filename === 'string' ? [filename] : [];
}

/** Null for a template that is not installed. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
