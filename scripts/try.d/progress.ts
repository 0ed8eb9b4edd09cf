/** Progress lines on standard error, and waiting for conditions. */

const startedAt = Date.now();

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** One line with the seconds since the program began. */
export function step(text: string): void {
  say(`[${elapsedSeconds().toFixed(1).padStart(5)} s] ${text}`);
}

export function elapsedSeconds(): number {
  return (Date.now() - startedAt) / 1000;
}

/** Pause between two looks, ms. */
const LOOK_MS = 100;

/**
 * Looks until the answer is not null; a far side that does not listen yet is looked at again.
 *
 * @throws {Error} naming `what`, after `seconds`; whatever else `look` throws, at once.
 */
export async function until<T>(what: string, seconds: number, look: () => Promise<T | null>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  while (Date.now() < deadline) {
    const found = await look().catch(ifNotListening);
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`${what}: not within ${seconds} s`);
}

function ifNotListening(error: Error & { code?: string; cause?: { code?: string } }): null {
  const code = error.code ?? error.cause?.code ?? '';
  if (['ECONNREFUSED', 'ENOENT', 'ECONNRESET'].includes(code)) return null;
  throw error;
}
