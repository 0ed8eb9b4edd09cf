/**
 * The part of scripts/try that comes after the bootstrap: up or down, for people or as JSON.
 */
import { parseArgs } from 'node:util';
import { down } from './down.ts';
import { say } from './progress.ts';
import { summary } from './summary.ts';
import { up } from './up.ts';

const { values } = parseArgs({
  options: {
    image: { type: 'string' },
    vcpus: { type: 'string', default: '1' },
    'memory-mib': { type: 'string', default: '256' },
    json: { type: 'boolean', default: false },
    down: { type: 'boolean', default: false },
  },
});

try {
  if (values.down) {
    const left = await down();
    if (values.json) console.log(JSON.stringify({ left }, null, 2));
    process.exitCode = left.length === 0 ? 0 : 1;
  } else {
    const result = await up({
      image: values.image,
      vcpus: Number(values.vcpus),
      memoryMib: Number(values['memory-mib']),
    });
    console.log(values.json ? JSON.stringify(result, null, 2) : summary(result));
  }
} catch (error) {
  say(`try: ${(error as Error).message}`);
  process.exitCode = 1;
}
