/**
 * Sends the bytes that uploads wait for, as a caller does who comes back after each crash.
 */
import { AgentError } from '../../../src/model/errors.ts';
import type { LocalClient } from './local-client.ts';

/** What every upload of the laboratory sends: a raw disk without anything on it. */
export const UPLOAD = Buffer.alloc(64 * 1024);

/** @throws {Error} nobody answers, or no longer */
export async function feedUploads(client: LocalClient): Promise<void> {
  const { operations } = await client.call('operation.list', { state: 'running' });
  for (const { kind, target, progress } of operations)
    if (kind === 'image.upload' && progress.step === 'receive') await feed(client, target.id);
}

async function feed(client: LocalClient, image: string): Promise<void> {
  try {
    const { at } = await client.upload(image);
    if (at < UPLOAD.length) await client.upload(image, { at, bytes: UPLOAD.subarray(at) });
  } catch (error) {
    // Bytes that are refused are sent again with the next look, or their operation has ended.
    if (!(error instanceof AgentError)) throw error;
  }
}
