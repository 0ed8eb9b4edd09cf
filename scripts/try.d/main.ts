/**
 * The part of scripts/try that comes after the bootstrap: up or down, for people or as JSON.
 */
import { parseArgs } from 'node:util';
import { down } from './down.ts';
import { say } from './progress.ts';
import { summary } from './summary.ts';
import { up } from './up.ts';

/** @throws {Error} for options that are not known, and for numbers that are none; isUsage knows them. */
function readOptions() {
  const { values } = parseArgs({
    options: {
      image: { type: 'string' },
      vcpus: { type: 'string', default: '1' },
      'memory-mib': { type: 'string', default: '256' },
      json: { type: 'boolean', default: false },
      down: { type: 'boolean', default: false },
    },
  });
  const { image, json, down: isDown } = values;
  return {
    image,
    json,
    isDown,
    vcpus: whole('--vcpus', values.vcpus),
    memoryMib: whole('--memory-mib', values['memory-mib']),
  };
}

function isUsage(error: Error & { code?: string }): boolean {
  return error instanceof RangeError || error.code?.startsWith('ERR_PARSE_ARGS') === true;
}

function whole(option: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new RangeError(`${option} takes a whole number, not ${text}`);
  return Number(text);
}

try {
  const { image, vcpus, memoryMib, json, isDown } = readOptions();
  if (isDown) {
    const left = await down();
    if (json) console.log(JSON.stringify({ left }, null, 2));
    process.exitCode = left.length === 0 ? 0 : 1;
  } else {
    const result = await up({ image, vcpus, memoryMib });
    console.log(json ? JSON.stringify(result, null, 2) : summary(result));
  }
} catch (error) {
  say(`try: ${(error as Error).message}`);
  process.exitCode = isUsage(error as Error) ? 2 : 1;
}
