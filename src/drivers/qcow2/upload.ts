/**
 * Bytes of an image that callers send themselves, appended piece by piece to ID.partial.
 *
 * The length of the file is how far it has come: a caller that lost its connection asks, and goes on from there.
 */
import { open } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { doing, sizeOfRegular } from './files.ts';
import { KeyedLock } from './keyed-lock.ts';
import type { Layout } from './layout.ts';

const PARTIAL_MODE = 0o600;

export interface Upload {
  id: string;
  at: number;
  limitBytes: number;
  bytes: AsyncIterable<Buffer>;
}

export class UploadStore {
  readonly #layout: Layout;
  readonly #availableBytes: () => Promise<number>;
  readonly #lock = new KeyedLock();

  constructor({ layout, availableBytes }: { layout: Layout; availableBytes: () => Promise<number> }) {
    this.#layout = layout;
    this.#availableBytes = availableBytes;
  }

  async look(id: string): Promise<number> {
    return (await sizeOfRegular(this.#layout.imagePartial(id))) ?? 0;
  }

  /** @throws {AgentError} STALE, LIMIT_REACHED, CAPACITY_EXCEEDED; what had come before is kept. */
  async append(upload: Upload, limit: CallLimit): Promise<number> {
    return await this.#lock.hold(upload.id, limit, async () => {
      const at = await this.look(upload.id);
      if (at !== upload.at) {
        throw new AgentError('STALE', `${at} bytes of the image are there, not ${upload.at}`, {
          details: { at },
        });
      }
      if (upload.limitBytes - at > (await this.#availableBytes())) {
        throw new AgentError(
          'CAPACITY_EXCEEDED',
          `The pool has no room for ${upload.limitBytes - at} bytes more`,
        );
      }
      return await this.#write(upload, limit);
    });
  }

  async #write({ id, at, limitBytes, bytes }: Upload, limit: CallLimit): Promise<number> {
    const path = this.#layout.imagePartial(id);
    await using file = await open(path, 'a', PARTIAL_MODE);
    let position = at;
    for await (const chunk of bytes) {
      limit.check();
      position += chunk.length;
      if (position > limitBytes) {
        throw new AgentError('LIMIT_REACHED', `More than the ${limitBytes} bytes that were announced came`);
      }
      await doing(`write ${path}`, () => file.appendFile(chunk));
    }
    await doing(`write ${path}`, () => file.sync());
    return position;
  }
}
