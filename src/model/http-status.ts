/**
 * The HTTP status of each error code, for every HTTP surface: the scheduler's API and the local socket.
 *
 * The code in the body is what a program acts on; the status is for proxies, logs and people.
 */
import type { ErrorCode } from './errors.ts';

const STATUS_BY_CODE: Readonly<Record<ErrorCode, number>> = {
  INTERNAL: 500,
  INVALID_ARGUMENT: 400,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  ILLEGAL_STATE: 409,
  STALE: 412,
  KEY_REUSED: 422,
  CAPACITY_EXCEEDED: 409,
  LIMIT_REACHED: 429,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
  CANCELLED: 409,
  IMAGE_REFUSED: 422,
  HOST_CONFLICT: 409,
  UNSUPPORTED: 501,
  PERMISSION_DENIED: 403,
  DATA_DAMAGED: 500,
};

export function httpStatusOf(code: ErrorCode): number {
  return STATUS_BY_CODE[code];
}
