/**
 * Sends a file to the agent, piece by piece, while its operation waits for the bytes.
 *
 * After each break, also a restart of the agent, the agent is asked how far the upload has come, and sending goes on
 * from there. An operation that ends early ends the sending, and a file that cannot be read cancels the operation.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Params } from '../model/methods.ts';
import type { Operation } from '../model/operation.ts';
import { isLost } from './client.ts';
import { CliError, EXIT, type ExitCode, usageError } from './failure.ts';
import type { Given } from './leaf.ts';
import { finish } from './operate.ts';
import { operationOf, type Session } from './session.ts';

/** Bytes of one piece: a break costs no more than the sending of one again. */
const PIECE_BYTES = 16 * 1024 * 1024;
/** Breaks in a row without a byte of headway, after which the agent is given up. */
const BREAKS_LIMIT = 5;

export interface UploadRequest {
  /** Absolute path of the file. */
  path: string;
  params: Omit<Params<'image.upload'>, 'sizeBytes' | 'key' | 'epoch'>;
}

export async function uploadImage(
  session: Session,
  given: Given,
  { path, params }: UploadRequest,
): Promise<ExitCode> {
  const sizeBytes = await sizeOf(path);
  const sha256 = params.sha256 ?? (await sha256Of(path));
  const key = given.text('key') ?? session.io.newKey();
  const asked = { ...params, sha256, sizeBytes, key };
  const operation = await operationOf('image.upload', await session.client.call('image.upload', asked));
  const stop = new AbortController();
  const sending = sendAll(session, { path, sizeBytes, image: operation.target.id }, stop.signal);
  if (given.on('no-wait')) await sending;
  const [sent, ended] = await Promise.allSettled([
    sending.catch((error: unknown) => giveUp(session, operation, error)),
    finish(session, given, operation, `Uploaded image ${params.name}`).finally(() => stop.abort()),
  ]);
  // The file's own failure is the reason of a cancelled operation.
  if (sent.status === 'rejected') throw sent.reason;
  if (ended.status === 'rejected') throw ended.reason;
  return ended.value;
}

async function sendAll(
  { client }: Session,
  { path, sizeBytes, image }: { path: string; sizeBytes: number; image: string },
  signal: AbortSignal,
): Promise<void> {
  for (let breaks = 0, last = -1; !signal.aborted; ) {
    try {
      let at = await client.uploaded(image, signal);
      breaks = at > last ? 0 : breaks + 1;
      last = at;
      while (at < sizeBytes) {
        const length = Math.min(PIECE_BYTES, sizeBytes - at);
        const bytes = createReadStream(path, { start: at, end: at + length - 1 });
        at = await client.sendPiece({ image, at, length, bytes }, signal);
      }
      return;
    } catch (error) {
      if (signal.aborted) return;
      // The operation has all it wants, or has ended: its own end tells which.
      if (codeOf(error) === 'ILLEGAL_STATE') return;
      if (breaks >= BREAKS_LIMIT || !(isLost(error) || isPassing(error))) throw error;
    }
  }
}

async function giveUp({ client }: Session, { id }: Operation, error: unknown): Promise<never> {
  // Where even this cannot be asked, the operation gives up by itself when no more bytes come.
  await client.call('operation.cancel', { id }).catch(() => undefined);
  throw error;
}

/** Another piece may have come before this one, or broken off. */
function isPassing(error: unknown): boolean {
  return ['STALE', 'UNAVAILABLE'].includes(codeOf(error) ?? '');
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}

async function sizeOf(path: string): Promise<number> {
  const stats = await stat(path).catch((cause: unknown) => {
    throw new CliError(EXIT.failed, 'NOT_FOUND', `Cannot read ${path}`, { cause });
  });
  if (!stats.isFile() || stats.size === 0) throw usageError(`${path} is no file with bytes in it`, {});
  return stats.size;
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}
