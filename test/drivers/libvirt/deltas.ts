/** What is in the files that QEMU writes of changes, looked at with its own tools. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Bytes that a delta has, zeros included, and nothing of what its header says that it stands on. */
export async function bytesInDelta(filename: string): Promise<number> {
  const alone = JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename } });
  const { stdout } = await run('qemu-img', ['map', '--output=json', `json:${alone}`]);
  const extents = JSON.parse(stdout) as { present: boolean; length: number }[];
  return extents.reduce((sum, { present, length }) => sum + (present ? length : 0), 0);
}

export async function bitmapsIn(path: string): Promise<string[]> {
  const { stdout } = await run('qemu-img', ['info', '--output=json', path]);
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: { name: string }[] } } };
  return (info['format-specific'].data.bitmaps ?? []).map(({ name }) => name);
}
