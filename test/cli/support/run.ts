/**
 * Runs one command line of `berth` inside the test, with a process made of values and a clock that does not wait.
 */
import { main } from '../../../src/cli/berth.ts';
import { CLIENT_LIMITS, type ClientLimits } from '../../../src/cli/client.ts';
import type { Io } from '../../../src/cli/io.ts';

/** Where the clock of every test begins. */
export const NOW_MS = Date.parse('2026-03-01T12:00:00.000Z');
export const KEY = '99999999-9999-4999-8999-999999999999';

export interface RunOptions {
  socketPath?: string;
  /** All three streams are terminals, or all but standard input. */
  terminal?: boolean | 'output';
  env?: Record<string, string>;
  stdin?: string;
  cwd?: string;
  /** What the operator types when asked. */
  reply?: string | null;
  limits?: Partial<ClientLimits>;
  /** Called at each pause of the command, with what was written so far: to press Ctrl-C, or to go away. */
  onSleep?: (io: { interrupt: () => void; hangUp: () => void; stdout: string }) => void;
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
  questions: string[];
  /** Who still listens for Ctrl-C in the end: must be nobody, or the process would not obey it. */
  listening: number;
  /** Milliseconds that passed on the clock. */
  spentMs: number;
}

export async function berth(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran: Ran = { code: -1, stdout: '', stderr: '', questions: [], listening: 0, spentMs: 0 };
  const io = ioFor(ran, options);
  ran.code = await main(argv, io, { ...CLIENT_LIMITS, ...options.limits });
  return ran;
}

function ioFor(ran: Ran, options: RunOptions): Io {
  const isTTY = options.terminal !== undefined && options.terminal !== false;
  const closed = new AbortController();
  const listeners = new Set<() => void>();
  const interrupt = () => {
    for (const listener of listeners) listener();
  };
  const env = options.socketPath === undefined ? {} : { BERTH_SOCKET: options.socketPath };
  return {
    stdin: Object.assign(lines(options.stdin ?? ''), { isTTY: options.terminal === true }),
    stdout: { write: (text) => (ran.stdout += text), isTTY, columns: 80 },
    stderr: { write: (text) => (ran.stderr += text), isTTY, columns: 80 },
    env: { ...env, ...options.env },
    cwd: options.cwd ?? '/',
    clock: {
      nowMs: () => NOW_MS + ran.spentMs,
      async sleep(ms) {
        options.onSleep?.({ interrupt, hangUp: () => closed.abort(), stdout: ran.stdout });
        ran.spentMs += ms;
        await new Promise((resolve) => setImmediate(resolve));
      },
    },
    closed: closed.signal,
    newKey: () => KEY,
    onInterrupt(listener) {
      listeners.add(listener);
      ran.listening += 1;
      return () => {
        listeners.delete(listener);
        ran.listening -= 1;
      };
    },
    async ask(question) {
      ran.questions.push(question);
      return options.reply ?? null;
    },
  };
}

async function* lines(text: string): AsyncGenerator<string> {
  if (text !== '') yield text;
}
