/**
 * Console logs: written by virtlogd as root, only read and removed here.
 *
 * The text is the guest's: bytes that are no UTF-8 become U+FFFD, and nothing else is touched.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../../model/errors.ts';
import { exists, readAt, removeDurably } from './files.ts';
import { checkId, type Layout } from './layout.ts';

/** Most bytes read at once; the method table asks for no more. */
const TAIL_BYTES_LIMIT = 1024 * 1024;

export class ConsoleStore {
  readonly #layout: Layout;

  constructor({ layout }: { layout: Layout }) {
    this.#layout = layout;
  }

  async read(instanceId: string, tailBytes: number): Promise<{ text: string; totalBytes: number }> {
    checkTail(tailBytes);
    const path = this.#layout.consoleLog(instanceId);
    if (!(await exists(path))) return { text: '', totalBytes: 0 };
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return await readTail(file, tailBytes);
    } finally {
      await file.close();
    }
  }

  /** Also what virtlogd has rotated away. */
  async remove(instanceId: string): Promise<void> {
    const id = checkId(instanceId);
    const folder = this.#layout.folder('consoles');
    for (const name of await readdir(folder)) {
      if (this.#layout.identify('consoles', name)?.id === id) await removeDurably(join(folder, name));
    }
  }
}

async function readTail(file: FileHandle, tailBytes: number): Promise<{ text: string; totalBytes: number }> {
  const stats = await file.stat();
  if (!stats.isFile()) throw new AgentError('HOST_CONFLICT', 'The console log is not a regular file');
  const at = Math.max(0, stats.size - tailBytes);
  const tail = await readAt(file, at, Math.min(tailBytes, stats.size));
  return {
    text: tail.subarray(at === 0 ? 0 : cutCharacterBytes(tail)).toString('utf8'),
    totalBytes: stats.size,
  };
}

/** Bytes at the beginning that are the rest of a character cut in two: UTF-8 has at most three. */
function cutCharacterBytes(tail: Buffer): number {
  let count = 0;
  while (count < 3 && count < tail.length && (tail[count]! & 0xc0) === 0x80) count++;
  return count;
}

function checkTail(tailBytes: number): void {
  if (Number.isInteger(tailBytes) && tailBytes >= 1 && tailBytes <= TAIL_BYTES_LIMIT) return;
  throw new AgentError(
    'INVALID_ARGUMENT',
    `1 to ${TAIL_BYTES_LIMIT} bytes of a console can be read, not ${tailBytes}`,
  );
}
