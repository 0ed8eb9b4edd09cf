/** A scheduler's engine in a process of its own, for races: claims when it is told to, and says what came of it. */
import { AgentError } from '../../../src/model/errors.ts';
import type { Claim } from '../../../src/scheduler/engines/engine.ts';
import { PlacementEngine } from '../../../src/scheduler/engines/placement/engine.ts';

const [url = '', tokenFile = '', schedulerId = ''] = process.argv.slice(2);
const engine = new PlacementEngine({ url, tokenFile, schedulerId });

process.on('message', async (claim: Claim) => {
  try {
    await engine.claim(claim);
    process.send?.({ code: null });
  } catch (error) {
    process.send?.({ code: AgentError.from(error).code });
  }
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
