/** What a person is told at the end. */
import { stripVTControlCharacters } from 'node:util';
import { NAMES, ROOT, SCHEDULER_URL, SOCKET, TOKEN } from './places.ts';
import type { UpResult } from './up.ts';

/** Lines of the console that are shown. */
const CONSOLE_LINES = 4;

export function summary({ instance, address, node, consoleTail, seconds }: UpResult): string {
  const berth = `${ROOT}/bin/berth --socket ${SOCKET}`;
  const lines = stripVTControlCharacters(consoleTail)
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '');
  return `
instance  ${instance.name} (${instance.id})
state     ${instance.power.state}, ${instance.spec.vcpus} vCPU, ${instance.spec.memoryMib} MiB, on node ${node}
address   ${address}, as its guest agent reports; ping ${address}
console   virsh -c qemu:///system console berth-${instance.name}      (leave with Ctrl-])
took      ${seconds} s

Its console said last:
${lines
  .slice(-CONSOLE_LINES)
  .map((line) => `  | ${line}`)
  .join('\n')}

What to try next:
  alias berth='${berth}'
  berth status                       how the node is
  berth instance list                what runs on it
  berth instance console ${NAMES.instance}        all that its console said
  berth instance stop ${NAMES.instance}           then start, reboot, delete
  berth doctor                       what would keep this host from being a good node
  curl -H "Authorization: Bearer $(cat ${TOKEN})" ${SCHEDULER_URL}/v1/nodes
  scripts/try --down                 remove all of it
`;
}
