/**
 * Where an image's bytes come from: a file of this host or an http(s) server, as one stream.
 */
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { CallLimit } from '../host/call-limit.ts';
import type { ImageSource, Resume, SourceLimits } from './source.ts';
import { openHttpSource } from './source-http.ts';
import { openLocalSource } from './source-local.ts';

/**
 * Opens `source`, an absolute path or an http(s) URL.
 *
 * @param resume What is there of an earlier transfer of it; only servers can go on with one.
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
  throw new AgentError('INVALID_ARGUMENT', 'An image comes from an absolute path or an http(s) URL');
}
