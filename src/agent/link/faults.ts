/**
 * Why a scheduler could not be reached, in words that say what to do; and both clocks, where it is about time.
 */
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { findFault } from '../../model/validate.ts';
import { ErrorBodySchema } from '../../model/operation.ts';
import { AgentError, type ErrorBody } from '../../model/errors.ts';

/** Bytes that are read of a refusal; ours have some hundred. */
const REFUSAL_BYTES_LIMIT = 8_192;
/** A look at a clock is a favour. Milliseconds. */
const CLOCK_TIMEOUT_MS = 5_000;

const WORDS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "the scheduler's certificate has run out, by this node's clock",
  CERT_NOT_YET_VALID: "the scheduler's certificate is not valid yet, by this node's clock",
  ERR_TLS_CERT_ALTNAME_INVALID: "the scheduler's certificate is for another name than the address has",
  SELF_SIGNED_CERT_IN_CHAIN: "the scheduler's certificate is of an authority that is not trusted here",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the scheduler's certificate is of no authority",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the scheduler's certificate is of an authority that is not trusted here",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    "the scheduler's certificate is of an authority that is not trusted here",
  CERT_SIGNATURE_FAILURE: "the scheduler's certificate was not made by the authority that is trusted here",
  INVALID_PURPOSE: 'the scheduler shows a certificate that is none of a server',
};

export function wordsOf(error: Error & { code?: string }): string {
  const words = WORDS[error.code ?? ''];
  return words === undefined ? messageOf(error) : `${words} (${error.code})`;
}

/** Of a name that has several addresses each has failed in its own way, and the whole has no words. @see net.connect, autoSelectFamily */
function messageOf(error: Error): string {
  const each = error instanceof AggregateError ? (error.errors as Error[]) : [];
  return error.message || each.map(({ message }) => message).join('; ');
}

/** Whether it may be the clock of one of both. */
export function isAboutTime({ code }: Error & { code?: string }): boolean {
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
}

/** A refusal, in the scheduler's words where they are an error of Berth, and when it wants to be asked again. */
export interface Refusal {
  words: string;
  retryAfterMs: number | null;
}

/** What a scheduler has answered in place of a WebSocket. */
export async function readRefusal(response: IncomingMessage, clock: Clock): Promise<Refusal> {
  const body = await readBody(response);
  const error = findFault(ErrorBodySchema, body) === null ? AgentError.fromBody(body as ErrorBody) : null;
  const words = error?.message ?? `status ${response.statusCode}`;
  const isTime = /clock says/.test(words);
  return {
    words: `the scheduler refused: ${words}${isTime ? `; this node's clock says ${timestamp(clock)}` : ''}`,
    retryAfterMs: (error === null ? null : retryAfterOf(error)) ?? retryAfterHeader(response),
  };
}

/** When a scheduler wants to be asked again that has refused with this, ms. */
export function retryAfterOf({ details }: AgentError): number | null {
  const told = details?.['retryAfterMs'];
  return typeof told === 'number' && Number.isFinite(told) ? told : null;
}

/** Any server may say it, in seconds. @see RFC 9110, 10.2.3 */
function retryAfterHeader(response: IncomingMessage): number | null {
  const seconds = /^\d{1,9}$/.exec(response.headers['retry-after'] ?? '');
  return seconds === null ? null : Number(seconds[0]) * 1000;
}

async function readBody(response: IncomingMessage): Promise<unknown> {
  let text = '';
  try {
    for await (const chunk of response) {
      text += String(chunk);
      if (text.length > REFUSAL_BYTES_LIMIT) break;
    }
    return (JSON.parse(text) as { error?: unknown }).error;
  } catch {
    return null; // what is no error of Berth is told by its status
  }
}

/**
 * What the two clocks say, for a person to compare. The far side is not proven to be the scheduler, so its word is
 * shown and nothing else; nothing is told to it.
 *
 * @returns Empty where it can't be asked.
 */
export async function compareClocks(url: string, clock: Clock): Promise<string> {
  const theirs = await dateOf(url);
  return theirs === null ? '' : `; the scheduler's clock says ${theirs}, this node's ${timestamp(clock)}`;
}

function dateOf(url: string): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const options = { rejectUnauthorized: false, agent: false, timeout: CLOCK_TIMEOUT_MS } as const;
  const asked = request(new URL(url.replace(/^wss/, 'https')), options, (response) => {
    response.destroy();
    const ms = Date.parse(response.headers.date ?? '');
    resolve(Number.isNaN(ms) ? null : new Date(ms).toISOString());
  });
  asked.on('timeout', () => asked.destroy());
  asked.on('error', () => resolve(null));
  asked.on('close', () => resolve(null));
  asked.end();
  return promise;
}
