/**
 * Crash: the gateway is killed while events are on their way, and starts again on the state that it has left.
 */
import { type Figures, PATIENCE_MS, type Stage } from '../scenario.ts';

export async function crash({ fleet, gateway, say }: Stage): Promise<Partial<Figures>> {
  say('killing the gateway');
  await Promise.all([fleet.stir(), gateway.kill()]);
  const sinceMs = Date.now();
  await Promise.all([fleet.stir(), gateway.start()]);
  await fleet.allLinked({ sinceMs, limitMs: PATIENCE_MS });
  const reconnectSeconds = (Date.now() - sinceMs) / 1000;
  const reconnectCpuSeconds = gateway.usage().cpuSeconds;
  await fleet.stir();
  await fleet.allAcknowledged(PATIENCE_MS);
  return { reconnectSeconds, reconnectCpuSeconds };
}
