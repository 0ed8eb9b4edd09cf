/**
 * What goes wrong between us and a store, in one form: which fault it is, whether it may pass, and which error
 * the caller gets.
 *
 * Only short, printable excerpts of what the far side has said are kept, and never the thrown thing itself: it holds the
 * request with its headers, and whatever a server likes to echo.
 */
import { AgentError, type ErrorCode } from '../../model/errors.ts';
import type { ObjectFault } from '../contracts/objects.ts';

/** Faults after which the same request may succeed a moment later. */
const PASSING: ReadonlySet<ObjectFault> = new Set<ObjectFault>([
  'unreachable',
  'stalled',
  'throttled',
  'server-error',
  'truncated',
]);
/** Longest excerpt of a server's words, characters. */
const EXCERPT_CHARACTERS = 200;
/** A signature, a token or a key, as a server may echo them from the request. */
const SECRET_LIKE = /[A-Za-z0-9+/=_-]{32,}|(Credential|AWSAccessKeyId)\S+/g;
/** Answers that ask for fewer requests, by status: 429, and 503 with AWS's code for it. */
const THROTTLING_STATUSES: readonly number[] = [429];
const TIMEOUT_STATUSES: readonly number[] = [408];
const THROTTLING_CODES: readonly string[] = [
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
];
/** OpenSSL's and Node's words for a certificate that does not hold. */
const TLS_CODE =
  /^(ERR_TLS_|ERR_SSL_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|EPROTO$)/;
const NETWORK_CODE =
  /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|EHOSTUNREACH|ENETUNREACH|EADDR|ENETDOWN|EHOSTDOWN)/;
/** A broken-off answer, as Node's HTTP client says it. */
const TRUNCATED_CODE = /^(ECONNRESET|ERR_STREAM_PREMATURE_CLOSE)$/;
const PROTOCOL_CODE = /^HPE_/;

export interface FaultFacts {
  status?: number;
  /** As S3 names it, such as NoSuchKey. */
  s3Code?: string;
}

/** One failed attempt at one request. */
export class StoreFault extends Error {
  override readonly name = 'StoreFault';
  readonly fault: ObjectFault;
  readonly status: number | undefined;
  readonly s3Code: string | undefined;

  constructor(fault: ObjectFault, message: string, facts: FaultFacts = {}) {
    super(message);
    this.fault = fault;
    this.status = facts.status;
    this.s3Code = facts.s3Code;
  }

  get mayPass(): boolean {
    return PASSING.has(this.fault);
  }
}

/** Anything thrown by the client library, as a StoreFault. */
export function faultOf(thrown: unknown): StoreFault {
  if (thrown instanceof StoreFault) return thrown;
  const { name, message, code, $metadata, $response } = thrown as Thrown;
  const status = $metadata?.httpStatusCode ?? $response?.statusCode;
  const text = excerpt(message);
  if (status !== undefined && status >= 400) return statusFault(status, excerpt(name ?? ''), text);
  if (code !== undefined && TLS_CODE.test(code)) return new StoreFault('tls', `${code}: ${text}`);
  if (code !== undefined && PROTOCOL_CODE.test(code)) return new StoreFault('protocol', `${code}: ${text}`);
  if (code !== undefined && NETWORK_CODE.test(code)) return new StoreFault('unreachable', `${code}: ${text}`);
  if (name === 'TimeoutError') return new StoreFault('unreachable', text);
  return new StoreFault('protocol', text, status === undefined ? {} : { status });
}

/** The same for what breaks the reading of an object. */
export function bodyFaultOf(thrown: unknown): StoreFault {
  const { code } = thrown as Thrown;
  if (code !== undefined && TRUNCATED_CODE.test(code)) {
    return new StoreFault('truncated', 'the answer ended before its announced length');
  }
  return faultOf(thrown);
}

interface Thrown {
  name?: string;
  message?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number };
}

function statusFault(status: number, s3Code: string, text: string): StoreFault {
  const message = `status ${status}, ${s3Code}: ${text}`;
  const facts = { status, s3Code };
  if (THROTTLING_STATUSES.includes(status) || (status === 503 && THROTTLING_CODES.includes(s3Code))) {
    return new StoreFault('throttled', message, facts);
  }
  if (TIMEOUT_STATUSES.includes(status)) return new StoreFault('stalled', message, facts);
  return new StoreFault(status >= 500 ? 'server-error' : 'refused', message, facts);
}

/**
 * The error for the caller.
 *
 * @param what What could not be done, as in "read object X".
 */
export function errorOf(store: string, what: string, fault: StoreFault): AgentError {
  const hint = hintOf(fault);
  return new AgentError(codeOf(fault), `Cannot ${what} of object store ${store}`, {
    cause: new Error(fault.message),
    details: { store, fault: fault.fault, ...(fault.status === undefined ? {} : { status: fault.status }) },
    ...(hint === undefined ? {} : { hint }),
  });
}

function codeOf({ fault, status }: StoreFault): ErrorCode {
  if (fault === 'damaged') return 'DATA_DAMAGED';
  if (fault !== 'refused') return 'UNAVAILABLE';
  switch (status) {
    case 401:
    case 403:
      return 'PERMISSION_DENIED';
    case 404:
      return 'NOT_FOUND';
    case 400:
    case 416:
      return 'INVALID_ARGUMENT';
    case 507:
      return 'CAPACITY_EXCEEDED';
    default:
      return 'UNAVAILABLE';
  }
}

function hintOf({ fault, s3Code, status }: StoreFault): string | undefined {
  if (s3Code === 'NoSuchBucket') return 'Make the bucket, or correct its name in the configuration.';
  if (s3Code === 'RequestTimeTooSkewed') return "Set this host's clock.";
  if (status === 403 || status === 401)
    return 'Check the credentials file and the rights that they have on the bucket.';
  if (fault === 'redirected') return 'Set endpoint and region of the store to where the bucket is.';
  if (fault === 'tls')
    return 'Check the endpoint, and name the certificate authority in caFile if it is a private one.';
  return undefined;
}

function excerpt(text: string | undefined): string {
  const printable = (text ?? '').replace(/[^\x20-\x7e]+/g, ' ').replace(SECRET_LIKE, '…');
  return printable.length > EXCERPT_CHARACTERS ? `${printable.slice(0, EXCERPT_CHARACTERS)}…` : printable;
}
