/**
 * The routes of the local socket by which an image's bytes come: streamed to the pool, never held whole in memory.
 */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Id } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { parse } from '../../model/validate.ts';
import type { Uploads } from '../images/uploads.ts';

/** Largest piece, bytes: a disk takes it well within the time that the socket gives a request. */
export const UPLOAD_BYTES_LIMIT = 64 * 1024 * 1024;

export function uploadRoutes(http: FastifyInstance, uploads: Uploads): void {
  http.removeAllContentTypeParsers();
  http.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload));
  http.get('/v1/uploads/:image', async (request) => {
    return { at: await uploads.look(imageOf(request)) };
  });
  http.put('/v1/uploads/:image', async (request, reply) => {
    const image = imageOf(request);
    const at = Number((request.query as { at?: string }).at);
    if (!Number.isSafeInteger(at) || at < 0) {
      throw new AgentError('INVALID_ARGUMENT', 'at must be the number of bytes that are there already');
    }
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const bytes = bounded(request.body as IncomingMessage | undefined);
    return { at: await uploads.append(image, at, bytes, gone.signal) };
  });
}

function imageOf({ params }: FastifyRequest): string {
  return parse(Id, (params as { image: unknown }).image, 'id of the image of an upload');
}

async function* bounded(body: IncomingMessage | undefined): AsyncGenerator<Buffer> {
  if (body === undefined)
    throw new AgentError('INVALID_ARGUMENT', 'The bytes come as application/octet-stream');
  let total = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > UPLOAD_BYTES_LIMIT) throw tooLarge();
      yield chunk;
    }
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('UNAVAILABLE', 'The bytes broke off', { cause: error });
  }
}

function tooLarge(): AgentError {
  return new AgentError('INVALID_ARGUMENT', `One piece has at most ${UPLOAD_BYTES_LIMIT} bytes`, {
    hint: 'Send what is left with the next request.',
  });
}
