/**
 * Where an image's bytes come from: a file of this host, an http(s) server or an object store, as one stream.
 */
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { ImageSource, Resume, SourceLimits } from './source.ts';
import { openObjectSource } from './source-object.ts';
import { openHttpSource } from './source-http.ts';
import { openLocalSource } from './source-local.ts';

/**
 * Opens `source`, an absolute path, an http(s) URL or s3://STORE/KEY.
 *
 * @param resume What is there of an earlier transfer of it; only servers and stores can go on with one.
 *
 * @throws {AgentError} INVALID_ARGUMENT: neither, or no regular file. NOT_FOUND, PERMISSION_DENIED.
 *   IMAGE_REFUSED: too large or empty. UNAVAILABLE: cannot be asked.
 */
export async function openSource(
  source: string,
  resume: Resume | null,
  parts: { limits: SourceLimits; clock: Clock; limit: CallLimit },
): Promise<ImageSource> {
  if (source.startsWith('/') && !source.includes('\0')) return await openLocalSource(source, parts.limits);
  if (/^https?:\/\//i.test(source)) return await openHttpSource(source, resume, parts);
  if (source.startsWith('s3://')) return await openObjectSource(source, resume, parts);
  throw new AgentError(
    'INVALID_ARGUMENT',
    'An image comes from an absolute path, an http(s) URL or s3://STORE/KEY',
  );
}
