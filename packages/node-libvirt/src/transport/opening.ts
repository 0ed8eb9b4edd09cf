/**
 * What all transports share while they open a connection: limits of time, and the errors of an attempt that is given up.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { LibvirtTransportError } from '../errors.ts';
import { TIMER_MAX_MS } from '../limits.ts';

/** Why an attempt was given up: its time was over. */
export class OpeningTimeout extends Error {
  override readonly name = 'OpeningTimeout';

  constructor(timeoutMs: number) {
    super(`no connection within ${timeoutMs} ms`);
  }
}

/** Runs an attempt with a signal that fires when the caller aborts or when time is over. */
export async function withinTime<T>(
  limits: { timeoutMs: number; signal?: AbortSignal | undefined },
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { timeoutMs, signal } = limits;
  const overdue = new AbortController();
  const end = () => overdue.abort(new OpeningTimeout(timeoutMs));
  const timer = timeoutMs <= TIMER_MAX_MS ? setTimeout(end, timeoutMs) : undefined;
  try {
    return await attempt(signal ? AbortSignal.any([signal, overdue.signal]) : overdue.signal);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The error of an attempt that its signal has ended.
 *
 * @param kind What a timeout means at this point: 'unreachable' while nobody has answered at all.
 */
export function givenUp(
  peer: string,
  signal: AbortSignal,
  kind: 'unreachable' | 'timeout',
): LibvirtTransportError {
  const { reason } = signal;
  return reason instanceof OpeningTimeout
    ? cannotConnect(kind, peer, reason.message, reason)
    : new LibvirtTransportError('aborted', `cannot connect to libvirt at ${peer}`, { cause: reason });
}

export function cannotConnect(
  kind: LibvirtTransportError['kind'],
  peer: string,
  why: string,
  cause?: unknown,
): LibvirtTransportError {
  return new LibvirtTransportError(kind, `cannot connect to libvirt at ${peer}: ${why}`, { cause });
}

/** Makes a socket and waits until it is connected. @throws {LibvirtTransportError} unreachable, aborted. */
export async function connected(make: () => Socket, peer: string, signal: AbortSignal): Promise<Socket> {
  if (signal.aborted) throw givenUp(peer, signal, 'unreachable');
  const socket = make();
  try {
    await once(socket, 'connect', { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    if (signal.aborted) throw givenUp(peer, signal, 'unreachable');
    throw cannotConnect('unreachable', peer, reasonOf(error), error);
  }
}

/** Words for the codes of the system that come when a connection is made. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens there',
  EACCES: 'this user may not use it',
  EPERM: 'this user may not use it',
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name cannot be resolved now',
  ETIMEDOUT: 'the host does not answer',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to its network',
  ECONNRESET: 'it hung up',
};

/** Words for an error of the system. */
export function reasonOf(error: unknown): string {
  const { code = '' } = error as NodeJS.ErrnoException;
  return REASONS[code] ?? `it failed with ${code || String(error)}`;
}

export function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | null)?.code ?? '';
}
