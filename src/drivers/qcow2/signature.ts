/**
 * A detached signature over an image, checked by gpgv in the cage against the operator's keyring. See docs/adr/0015.
 */
import { open } from 'node:fs/promises';
import { AgentError } from '../../model/errors.ts';
import type { CallLimit } from '../host/call-limit.ts';
import { lent } from '../host/exec.ts';
import { removeDurably } from './files.ts';
import { type ImageTool, refused } from './image-tool.ts';
import { openSource } from './open-source.ts';
import type { FetchParts } from './fetch.ts';
import { openSink } from './sink.ts';

/** A signature has some hundred bytes. */
const SIGNATURE_BYTES_MAX = 64 * 1024;
/** gpgv hashes the image at some hundred MB/s. */
const LIMITS = { addressSpaceBytes: 1024 ** 3, cpuSeconds: 3600, fileSizeBytes: 0 };
const TIMEOUT_MS = 2 * 3600_000;

export interface SignatureRequest {
  /** Absolute path or URL of the signature. */
  source: string;
  /** The signed image. */
  imagePath: string;
  /** Where the signature is put for a moment. */
  path: string;
  /** Keys that are trusted, as gpgv reads them; null where none is configured. */
  keyring: string | null;
}

/** @throws {AgentError} IMAGE_REFUSED: no good signature by a trusted key. UNSUPPORTED: no keyring, or no gpgv. */
export async function checkSignature(
  tool: ImageTool,
  request: SignatureRequest,
  parts: FetchParts,
  limit: CallLimit,
): Promise<void> {
  const { keyring } = request;
  if (keyring === null) {
    throw new AgentError('UNSUPPORTED', 'Cannot check a signature: no keyring is configured', {
      hint: 'Name a file of trusted keys in images.keyring of the configuration.',
    });
  }
  try {
    await fetchSignature(request, parts, limit);
    await verify(tool, keyring, request, limit);
  } finally {
    await removeDurably(request.path);
  }
}

async function fetchSignature(
  { source, path }: SignatureRequest,
  parts: FetchParts,
  limit: CallLimit,
): Promise<void> {
  await removeDurably(path);
  const limits = { ...parts.limits, imageBytes: SIGNATURE_BYTES_MAX };
  await using opened = await openSource(source, null, { limits, clock: parts.clock, limit });
  await using sink = await openSink(path);
  for await (const chunk of opened.chunks()) await sink.write(chunk);
  await sink.finish();
}

async function verify(
  tool: ImageTool,
  keyring: string,
  { path, imagePath }: SignatureRequest,
  limit: CallLimit,
): Promise<void> {
  await using signature = await tool.lend(path);
  await using image = await tool.lend(imagePath);
  await using keys = await open(keyring, 'r');
  const args = ['--keyring', lent(2), lent(0), lent(1)];
  const run = { files: [signature, image, keys], limits: LIMITS, timeoutMs: TIMEOUT_MS, okCodes: [0, 1, 2] };
  const { exitCode, stderr } = await tool.run('gpgv', args, run, limit);
  if (exitCode === 0) return;
  throw refused(`its signature is not good: ${stderr.replaceAll(/\s+/g, ' ').slice(0, 200)}`);
}
