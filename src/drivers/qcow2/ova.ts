/**
 * An OVA: a tar archive with the OVF envelope of one machine and its disks as VMDK.
 *
 * Nothing is unpacked: qemu-img reads the disk in its place within the archive.
 */
import { open } from 'node:fs/promises';
import type { GuestHardware } from '../../model/storage.ts';
import { readAt } from './files.ts';
import type { ReadAt } from './foreign.ts';
import { refused } from './image-tool.ts';
import type { ImageBody } from './inspect.ts';
import { OVF_BYTES_LIMIT, readOvf } from './ovf.ts';
import { listTar } from './tar.ts';

export interface OpenedOva {
  body: ImageBody;
  hardware: GuestHardware;
}

/**
 * @param disk Which of the machine's disks, from 0.
 * @throws {AgentError} IMAGE_REFUSED, with the reason.
 */
export async function openOva(path: string, disk: number): Promise<OpenedOva> {
  await using file = await open(path, 'r');
  const archiveBytes = (await file.stat()).size;
  const read: ReadAt = (position, length) => readAt(file, position, length);
  const files = await listTar(read, archiveBytes);
  const [envelope, ...others] = files.filter(({ name }) => /\.ovf$/i.test(name));
  if (envelope === undefined || others.length > 0) throw refused('its archive has not one envelope, *.ovf');
  if (envelope.sizeBytes > OVF_BYTES_LIMIT)
    throw refused(`its envelope has more than ${OVF_BYTES_LIMIT} bytes`);
  const hardware = readOvf((await read(envelope.offset, envelope.sizeBytes)).toString('utf8'));
  const { file: wanted } = diskOf(hardware, disk);
  const found = files.filter(({ name }) => name === wanted);
  const [place] = found;
  if (place === undefined || found.length > 1)
    throw refused(`its archive has not one file ${JSON.stringify(wanted)}`);
  const range = { offset: place.offset, sizeBytes: place.sizeBytes };
  return { body: { path, format: 'vmdk', range }, hardware };
}

function diskOf({ disks }: GuestHardware, disk: number): GuestHardware['disks'][number] {
  const found = disks[disk];
  if (found !== undefined) return found;
  throw refused(
    disks.length === 0
      ? 'its machine has no disk with data'
      : `its machine has no disk ${disk}, only ${disks.length}`,
  );
}
