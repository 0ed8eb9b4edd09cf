/**
 * An S3 server that answers as a test tells it: for what no honest server does.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

export interface Asked {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingMessage['headers'];
  body: Buffer;
}

/** @param count Of requests so far, this one counted. */
export type Answer = (asked: Asked, response: ServerResponse, count: number) => void;

export interface FakeServer {
  endpoint: string;
  asked: Asked[];
}

/** @param tls Key and certificate, PEM. @default plain HTTP */
export async function fakeServer(
  t: Test,
  answer: Answer,
  tls?: { key: string; cert: string },
): Promise<FakeServer> {
  const asked: Asked[] = [];
  const onRequest = async (request: IncomingMessage, response: ServerResponse) => {
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    const { method = '', url = '', headers } = request;
    asked.push({ method, url, headers, body: Buffer.concat(pieces) });
    answer(asked.at(-1) as Asked, response, asked.length);
  };
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void onRequest(request, response).catch(() => response.destroy());
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, asked };
}

export function xml(response: ServerResponse, text: string, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
}

export function s3Error(response: ServerResponse, status: number, code: string, message = code): void {
  xml(response, `<Error><Code>${code}</Code><Message>${message}</Message></Error>`, status);
}

/** A page of a listing. */
export function page(keys: string[], { more = false } = {}): string {
  const contents = keys.map(
    (key) =>
      `<Contents><Key>${key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag></Contents>`,
  );
  return `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>${more}</IsTruncated>${contents.join('')}</ListBucketResult>`;
}
