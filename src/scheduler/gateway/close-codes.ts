/**
 * Why the scheduler closes a link: WebSocket close codes, for agents and for people who read their logs.
 *
 * @see RFC 6455, section 7.4: 1000 to 2999 are the protocol's own, 4000 to 4999 an application's.
 */
export const CLOSE = {
  goingAway: { code: 1001, reason: 'the scheduler is stopping' },
  unsupportedData: { code: 1003, reason: 'only text frames are taken' },
  internal: { code: 1011, reason: 'events could not be stored; connect again' },
  replaced: { code: 4001, reason: 'another connection of the same node has taken over' },
  noHello: { code: 4002, reason: 'no hello in time' },
  malformed: { code: 4003, reason: 'a malformed message' },
  refused: { code: 4004, reason: 'the hello was refused' },
  revoked: { code: 4005, reason: 'the certificate was revoked' },
} as const satisfies Record<string, CloseCause>;

/** Longest reason, in bytes: a close frame holds 123, and a cut character may grow to three bytes. */
const REASON_BYTES_LIMIT = 120;

export interface CloseCause {
  code: number;
  reason: string;
}

/** The cause with what was wrong in particular, as far as a close frame has room for it. */
export function because(cause: CloseCause, message: string): CloseCause {
  const reason = Buffer.from(`${cause.reason}: ${message}`).subarray(0, REASON_BYTES_LIMIT).toString();
  return { code: cause.code, reason };
}
