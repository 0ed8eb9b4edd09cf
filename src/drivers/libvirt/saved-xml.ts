/**
 * The XML with which a guest's saved memory is taken up again: that of the saved guest, on the files that its disks have
 * now. Pure.
 *
 * The rest stays as QEMU had it, addresses included, since the memory knows the devices by them. Both texts are
 * libvirt's own, so their layout is known.
 */
import { AgentError } from '../../model/errors.ts';

const DISK = /<disk [\s\S]*?<\/disk>/g;
const SERIAL = /<serial>([^<]*)<\/serial>/;
/** How a disk is read and written, and in which files. */
const FILES = /<driver [\s\S]*?(?=<target )/;
const METADATA = /<metadata>[\s\S]*?<\/metadata>/;

/** @throws {AgentError} HOST_CONFLICT: the saved guest had other disks. */
export function withDisksOf(saved: string, kept: string, id: string): string {
  const files = new Map(disksIn(kept).map((disk) => [serialIn(disk), FILES.exec(disk)?.[0]]));
  const missing = disksIn(saved).find((disk) => files.get(serialIn(disk)) === undefined);
  if (missing !== undefined || disksIn(saved).length !== files.size)
    throw new AgentError('HOST_CONFLICT', `The saved memory is of a guest with other disks than ${id} has`);
  const metadata = METADATA.exec(kept)?.[0] ?? '';
  return saved
    .replace(DISK, (disk) => disk.replace(FILES, () => files.get(serialIn(disk)) as string))
    .replace(METADATA, () => metadata);
}

function disksIn(text: string): string[] {
  return text.match(DISK) ?? [];
}

function serialIn(disk: string): string {
  return SERIAL.exec(disk)?.[1] ?? '';
}
