/** A pause that ends early where there is no reason to wait any longer. */
import type { Clock } from '../../drivers/contracts/clock.ts';

/** Resolves after `delayMs` milliseconds, or when the signal is aborted. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const goOn = () => resolve();
  const cancelTimer = clock.after(delayMs, goOn);
  signal.addEventListener('abort', goOn, { once: true });
  await promise;
  signal.removeEventListener('abort', goOn);
  cancelTimer();
}
