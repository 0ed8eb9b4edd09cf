/**
 * Tells systemd how the daemon is: ready, stopping, alive, and in what state.
 *
 * The protocol is one datagram on a Unix socket, which Node cannot send; systemd-notify(1) does. Without a
 * service manager (NOTIFY_SOCKET unset) every call is done at once. The message comes from a child, so the
 * unit needs NotifyAccess=all (or the right to claim the daemon's pid, which a sandbox takes away).
 * @see sd_notify(3), sd_watchdog_enabled(3)
 */
import type { Exec } from './exec.ts';

/** systemd answers within milliseconds; one that does not must not hold up the daemon. Milliseconds. */
const NOTIFY_TIMEOUT_MS = 5_000;
/** Longest status line, in characters: it is for one line of systemctl. */
const STATUS_LIMIT = 200;

/** What systemd puts into a service's environment. */
export interface NotifyEnvironment {
  NOTIFY_SOCKET?: string | undefined;
  /** Microseconds. */
  WATCHDOG_USEC?: string | undefined;
  /** The process that the watchdog is meant for. */
  WATCHDOG_PID?: string | undefined;
}

export interface ServiceNotifierParts {
  exec: Exec;
  environment: NotifyEnvironment;
  pid: number;
}

export class ServiceNotifier {
  /** How often `alive` has to be called: half of what systemd waits, milliseconds; null without a watchdog. */
  readonly watchdogIntervalMs: number | null;
  readonly #exec: Exec;
  readonly #socket: string | null;

  constructor({ exec, environment, pid }: ServiceNotifierParts) {
    this.#exec = exec;
    this.#socket = environment.NOTIFY_SOCKET || null;
    this.watchdogIntervalMs = this.#socket === null ? null : watchdogIntervalMs(environment, pid);
  }

  /** Whether anybody listens. */
  get listening(): boolean {
    return this.#socket !== null;
  }

  ready(status: string): Promise<void> {
    return this.#send('READY=1', statusLine(status));
  }

  status(status: string): Promise<void> {
    return this.#send(statusLine(status));
  }

  alive(): Promise<void> {
    return this.#send('WATCHDOG=1');
  }

  stopping(): Promise<void> {
    return this.#send('STOPPING=1');
  }

  /** @throws {AgentError | ProcessError} It could not be sent; the caller logs it and goes on. */
  async #send(...assignments: string[]): Promise<void> {
    if (this.#socket === null) return;
    await this.#exec.run('systemd-notify', ['--', ...assignments], {
      env: { NOTIFY_SOCKET: this.#socket },
      timeoutMs: NOTIFY_TIMEOUT_MS,
    });
  }
}

function watchdogIntervalMs({ WATCHDOG_USEC, WATCHDOG_PID }: NotifyEnvironment, pid: number): number | null {
  const usec = Number(WATCHDOG_USEC);
  if (!Number.isSafeInteger(usec) || usec <= 0) return null;
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(pid)) return null;
  return Math.max(1, Math.floor(usec / 2000));
}

/** A line end would begin another assignment. */
function statusLine(status: string): string {
  return `STATUS=${status.replaceAll(/[\r\n]+/g, ' ').slice(0, STATUS_LIMIT)}`;
}
