/**
 * Lines of a stream of bytes. A last line without its end is dropped: it is not known to be whole.
 */
import type { IncomingMessage } from 'node:http';
import { CliError, EXIT } from './failure.ts';

/** Longest line, in bytes: an event holds one object, and user-data is 64 Ki characters at most. */
export const LINE_BYTES_LIMIT = 1024 * 1024;

/**
 * The lines of `response` until it ends, breaks, or the signal is aborted.
 *
 * @throws {CliError} A line is longer than the limit.
 */
export async function* linesOf(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of untilBroken(response, signal)) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_BYTES_LIMIT) throw tooLong();
    yield* lines.filter((line) => line !== '');
  }
}

/** A stream that breaks ends: whoever follows it opens it again where it stopped. */
async function* untilBroken(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const stop = () => response.destroy();
  signal.addEventListener('abort', stop, { once: true });
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  try {
    for (;;) {
      const next = await chunks.next().catch(() => ({ done: true as const, value: undefined }));
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', stop);
    response.destroy();
  }
}

function tooLong(): CliError {
  const message = `an event of the agent is longer than ${LINE_BYTES_LIMIT} bytes`;
  return new CliError(EXIT.failed, 'LIMIT_REACHED', message, {
    hint: 'Read it with `berth events` instead.',
  });
}
