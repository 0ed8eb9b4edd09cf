/**
 * Slow network: a tenth of the agents is behind slow lines, and writes events there. They come through, and the others
 * do not feel it.
 */
import { type Figures, p99Of, PATIENCE_MS, type Stage } from '../scenario.ts';
import { readTimes } from './commands.ts';

const SHARE = 0.1;
/** More relayed connections would measure the relays. */
const SLOW_MAX = 400;
/** Times that something happens on each node. */
const STIRS = 3;

export async function slow({ api, fleet, options, say }: Stage): Promise<Partial<Figures>> {
  const nodes = await fleet.nodeIds();
  const sinceMs = Date.now();
  const slowed = await fleet.slowDown(Math.min(SLOW_MAX, Math.ceil(fleet.size * SHARE)));
  say(`${slowed} agents are behind slow lines`);
  for (let n = 0; n < STIRS; n++) await fleet.stir();
  const times = await readTimes(api, nodes, options.commands);
  await fleet.allLinked({ sinceMs: 0, limitMs: PATIENCE_MS });
  await fleet.allAcknowledged(PATIENCE_MS);
  const slowSeconds = (Date.now() - sinceMs) / 1000;
  await fleet.slowDown(0);
  await fleet.allLinked({ sinceMs: 0, limitMs: PATIENCE_MS });
  return { slowSeconds, slowReadP99Ms: Math.round(p99Of(times) * 100) / 100 };
}
