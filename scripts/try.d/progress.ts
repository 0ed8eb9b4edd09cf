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
 * Looks until the answer is neither null nor a failure.
 *
 * @throws {Error} naming `what`, with the last failure, after `seconds`.
 */
export async function until<T>(what: string, seconds: number, look: () => Promise<T | null>): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  let failure = '';
  while (Date.now() < deadline) {
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      failure = `: ${(error as Error).message}`;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`${what}: not within ${seconds} s${failure}`);
}
