/**
 * Why a scheduler could not be reached, in words that say what to do; and both clocks, where it is about time.
 */
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { type Clock, timestamp } from '../../drivers/contracts/clock.ts';
import { findFault } from '../../model/validate.ts';
import { ErrorBodySchema } from '../../model/operation.ts';
import type { ErrorBody } from '../../model/errors.ts';

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
  return words === undefined ? error.message : `${words} (${error.code})`;
}

/** Whether it may be the clock of one of both. */
export function isAboutTime({ code }: Error & { code?: string }): boolean {
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
}

/** What a scheduler has answered in place of a WebSocket, in its own words where they are an error of Berth. */
export async function readRefusal(response: IncomingMessage, clock: Clock): Promise<string> {
  const body = await readBody(response);
  const message = findFault(ErrorBodySchema, body) === null ? (body as ErrorBody).message : null;
  const words = message ?? `status ${response.statusCode}`;
  const isTime = /clock says/.test(words);
  return `the scheduler refused: ${words}${isTime ? `; this node's clock says ${timestamp(clock)}` : ''}`;
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
