/**
 * Mass restart: all agents stop and start at once, as after a power cut, with events that nobody has seen yet.
 */
import { type Figures, PATIENCE_MS, type Stage } from '../scenario.ts';

export async function restart({ fleet, say }: Stage): Promise<Partial<Figures>> {
  say('restarting all agents');
  await fleet.stir();
  const sinceMs = Date.now();
  await fleet.restart();
  await fleet.stir();
  await fleet.allLinked({ sinceMs, limitMs: PATIENCE_MS });
  const restartSeconds = (Date.now() - sinceMs) / 1000;
  await fleet.allAcknowledged(PATIENCE_MS);
  return { restartSeconds };
}
