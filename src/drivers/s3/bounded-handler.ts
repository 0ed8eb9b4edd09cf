/**
 * The HTTP under the client library: answers that are no object are read here, up to a limit, before anything parses
 * them; a redirect is a fault; an object's bytes pass by unread.
 */
import { Agent as HttpAgent, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { MIB } from '../../model/units.ts';
import { StoreFault } from './faults.ts';

/** A full page of keys of full length, each character escaped, is below 4 MiB. */
const ANSWER_BYTES_LIMIT = 8 * MIB;
/** Connections to one store: the parts of a few transfers, and the calls beside them. */
const CONNECTIONS_LIMIT = 16;
/** Milliseconds for a connection, TLS included. */
const CONNECT_TIMEOUT_MS = 10_000;

type Handle = NodeHttpHandler['handle'];

export class BoundedHandler {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #inner: NodeHttpHandler;

  /** @param ca Certificates, PEM, in place of the system's. */
  constructor({ ca }: { ca?: string } = {}) {
    const pool = { keepAlive: true, maxSockets: CONNECTIONS_LIMIT };
    this.#inner = new NodeHttpHandler({
      httpAgent: new HttpAgent(pool),
      httpsAgent: new HttpsAgent({ ...pool, minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }) }),
      connectionTimeout: CONNECT_TIMEOUT_MS,
    });
  }

  async handle(request: Parameters<Handle>[0], options: Parameters<Handle>[1] = {}): ReturnType<Handle> {
    const { response } = await this.#inner.handle(request, options);
    const body = response.body as IncomingMessage;
    // A connection that breaks when nobody reads any more is nobody's failure.
    body.on('error', () => undefined);
    if (response.statusCode >= 300 && response.statusCode < 400) {
      body.destroy();
      throw new StoreFault('redirected', `status ${response.statusCode}`, { status: response.statusCode });
    }
    if (request.query['x-id'] === 'GetObject' && response.statusCode < 300) return { response };
    response.body = Readable.from([await readBounded(body, options.abortSignal as AbortSignal | undefined)]);
    return { response };
  }

  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): Record<string, never> {
    return {};
  }

  destroy(): void {
    this.#inner.destroy();
  }
}

async function readBounded(body: IncomingMessage, signal: AbortSignal | undefined): Promise<Buffer> {
  const stop = () => body.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    const pieces: Buffer[] = [];
    let total = 0;
    for await (const piece of body as AsyncIterable<Buffer>) {
      total += piece.length;
      if (total > ANSWER_BYTES_LIMIT) {
        throw new StoreFault('protocol', `an answer of more than ${ANSWER_BYTES_LIMIT} bytes`);
      }
      pieces.push(piece);
    }
    return Buffer.concat(pieces, total);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
