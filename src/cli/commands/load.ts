/** `berth load`: what the node really uses now. */
import type { NodeLoad } from '../../model/load.ts';
import { EXIT } from '../failure.ts';
import type { LeafBody } from '../leaf.ts';
import { fields, type Look } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatBytes, formatMib } from '../render/units.ts';

export const load: LeafBody = {
  details: 'What is claimed of the node, and what is left to claim, is told by `berth inventory`.',
  doing: () => 'tell what the node uses',
  async run(session) {
    const result = await session.client.call('node.load', {});
    await session.answerResult('node.load', result, renderLoad);
    return EXIT.done;
  },
};

function renderLoad({ seconds, cpu, memory, pools, levels }: NodeLoad, look: Look): string {
  const { busyPercent, iowaitPercent, stealPercent, averages } = cpu;
  return fields(
    [
      [
        'CPU',
        [`${clean(levels.cpu)}: ${busyPercent} % used, ${iowaitPercent} % waits for disks, in ${seconds} s`],
      ],
      ['Stolen', `${clean(levels.steal)}: ${stealPercent} % given to others by the hardware below`],
      ['Load averages', averages.map((average) => average.toFixed(2)).join(', ')],
      ['Memory', memoryText(memory, levels)],
      ['Pools', pools.map(poolText)],
    ],
    look,
  );
}

function memoryText(
  { totalMib, availableMib, usedPercent, swapUsedMib }: NodeLoad['memory'],
  levels: NodeLoad['levels'],
) {
  const free = `${formatMib(availableMib)} of ${formatMib(totalMib)} can be given`;
  return `${clean(levels.memory)}: ${usedPercent} % used, ${free}, ${formatMib(swapUsedMib)} in swap`;
}

function poolText({ name, availableBytes, totalBytes }: NodeLoad['pools'][number]): string {
  return `${clean(name)}: ${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} free`;
}
