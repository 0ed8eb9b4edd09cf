/** What the parts of the contract of StoragePool are tested with. */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { StoragePool } from '../../../src/drivers/contracts/storage.ts';
import type { ErrorCode } from '../../../src/model/errors.ts';
import type { ImageFormat } from '../../../src/model/storage.ts';

/** An image that an implementation must take, with what it must say of it. */
export interface ValidSource {
  /** What `ImageRequest.source` accepts here. */
  source: string;
  format: ImageFormat;
  sha256: string;
  sizeBytes: number;
  /** More than 1 MiB and a multiple of 1 MiB, so that volumes can be asked smaller and larger. */
  virtualSizeBytes: number;
}

/** A fresh pool, empty and not yet prepared, and what the tests need around it. */
export interface StorageFixture {
  pool: StoragePool;
  valid: ValidSource;
  /** An image that must be refused whatever its digest. */
  hostile: { source: string; format: ImageFormat };
  /** A source of which there is nothing. */
  missingSource: string;
  /** What QEMU does to a volume of the pool. */
  tracking: {
    /** Begins to keep what changes, under this name. */
    begin(id: string, name: string): Promise<void>;
    /** Writes somewhere. */
    scribble(id: string): Promise<void>;
    /** Is killed while it uses the volume. */
    kill(id: string): Promise<void>;
  };
  /** Writes an instance's console log, as the hypervisor does; replaces what was there. */
  writeConsole(instanceId: string, text: string): Promise<void>;
  /** Puts a file into a share's folder, as a guest does. */
  writeInto(sharePath: string): Promise<void>;
  /** Puts another key in the place of one, and answers with what puts it back; `storage-encryption.ts` has their names. */
  replaceKey(name: string): Promise<() => Promise<void>>;
  /** Whether the pool's file system keeps folders to a quota. */
  keepsQuotas: boolean;
}

/** Makes one fixture; registers its own clean-up with `t.teardown`. */
export type MakePool = (t: Test) => Promise<StorageFixture>;

export const MIB = 1024 * 1024;

export const LAYER = '00000000-1a7e-4000-8000-000000000000';

export function request({ source, format, sha256 }: ValidSource) {
  return { source, format, sha256 };
}

export async function madeImage(
  pool: StoragePool,
  valid: ValidSource,
): Promise<{ id: string; format: ImageFormat }> {
  const id = randomUUID();
  await pool.makeImage({ id, ...request(valid) });
  return { id, format: valid.format };
}

export function sortById<T extends { id: string }>(items: T[]): T[] {
  return items.toSorted((a, b) => a.id.localeCompare(b.id));
}

/** `call` must fail with an AgentError of `code`; a synchronous throw counts as a failure of the driver. */
export async function rejectsWith(t: Test, code: ErrorCode, call: () => Promise<unknown>): Promise<void> {
  await t.rejects(call(), { name: 'AgentError', code });
}
