/**
 * A process that drives a simulated host and kills itself at a chosen moment, for world.test.ts.
 *
 * Arguments: the world's file, and the number of the call, from 0, after whose act SIGKILL comes and before
 * whose answer.
 */
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import { build } from './build.ts';

const [statePath = '', killAfter = ''] = process.argv.slice(2);
const host = createSimHost({ statePath });
let calls = 0;
host.world.faults.onCall(async (_call, when) => {
  if (when === 'before' || calls++ !== Number(killAfter)) return;
  process.kill(process.pid, 'SIGKILL');
  await new Promise(() => setInterval(() => {}, 1_000)); // until the signal has come
});
await build(host);
