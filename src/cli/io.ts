/**
 * The process around the command line: streams, environment, clock and keyboard, as values that tests replace.
 */
import { setTimeout as delay } from 'node:timers/promises';

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Input extends AsyncIterable<string | Uint8Array> {
  readonly isTTY?: boolean;
}

export interface Clock {
  /** Milliseconds since the epoch. */
  nowMs(): number;
  /** Resolves after `ms`, or as soon as the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Io {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly clock: Clock;
  /** Aborted when nobody reads standard output any more, as after `| head`. */
  readonly closed: AbortSignal;
  newKey(): string;
  /** Calls back at the first Ctrl-C; without a listener, Ctrl-C ends the process. Returns how to stop listening. */
  onInterrupt(listener: () => void): () => void;
  /** Asks on standard error and reads one line of standard input; null at its end. */
  ask(question: string): Promise<string | null>;
}

export function processIo(): Io {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    clock: { nowMs: Date.now, sleep },
    closed: closedSignal(process.stdout),
    newKey: () => process.getBuiltinModule('node:crypto').randomUUID(), // an import of it costs 15 ms at start
    onInterrupt,
    ask,
  };
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await delay(ms, undefined, signal ? { signal } : {}).catch((error: unknown) => {
    if (!signal?.aborted) throw error;
  });
}

/** A reader that goes away is no failure of the command; any other fault of the stream is. */
function closedSignal(stdout: NodeJS.WriteStream): AbortSignal {
  const controller = new AbortController();
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    controller.abort();
  });
  return controller.signal;
}

function onInterrupt(listener: () => void): () => void {
  process.once('SIGINT', listener);
  return () => process.removeListener('SIGINT', listener);
}

async function ask(question: string): Promise<string | null> {
  const { createInterface } = await import('node:readline/promises');
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const ended = new Promise<null>((resolve) => lines.once('close', () => resolve(null)));
  try {
    return await Promise.race([lines.question(question), ended]);
  } finally {
    lines.close();
  }
}
