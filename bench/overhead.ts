/**
 * overhead: what a guest's QEMU takes of the host beyond the guest's memory, by what the guest is made of.
 *
 * Read from /proc/PID/smaps. Goals are what an instance claims for it (src/model/overhead.ts). Three parts are told apart:
 * what QEMU has for itself, QEMU's code on disk, which guests share, and the buffer of translated code, which there is
 * without KVM alone and which is claimed by nobody.
 */
import { readFileSync } from 'node:fs';
import { prepare, qemuPid, RealNode, spec } from '../test/e2e/support/node.ts';
import { overheadMibOf } from '../src/model/overhead.ts';
import { type Case, caseOf } from './harness.ts';

type Spec = ReturnType<typeof spec>;

const DISK = { sizeGib: 1 };
/** What differs from the guest of all tests: 1 vCPU, 1 disk, 1 NIC. */
const SHAPES: Record<string, Partial<Spec>> = {
  '128 MiB, 1 vCPU, 1 disk': { memoryMib: 128 },
  '512 MiB, 1 vCPU, 1 disk': { memoryMib: 512 },
  '512 MiB, 8 vCPUs, 1 disk': { memoryMib: 512, vcpus: 8 },
  '512 MiB, 1 vCPU, 9 disks, 8 NICs': {
    memoryMib: 512,
    disks: [{ image: 'test' }, ...Array.from({ length: 8 }, () => DISK)],
    nics: Array.from({ length: 8 }, () => ({ network: 'default' })),
  },
  '512 MiB, UEFI': { memoryMib: 512, firmware: 'uefi' },
};
/** Time for the guest's system to come to rest after it has an address, ms. */
const SETTLE_MS = 5_000;
const KIB_PER_MIB = 1024;

export async function overheadBench(): Promise<Case[]> {
  const node = new RealNode();
  await node.start();
  try {
    await prepare(node);
    const cases: Case[] = [];
    for (const [shape, changes] of Object.entries(SHAPES))
      cases.push(...(await measure(node, shape, changes)));
    return cases;
  } finally {
    await node.remove();
  }
}

async function measure(node: RealNode, shape: string, changes: Partial<Spec>): Promise<Case[]> {
  const asked = spec('overhead', changes);
  const { state, error } = await node.run('instance.create', { spec: asked });
  if (state !== 'succeeded') throw new Error(`${shape}: ${error?.message}`);
  await node.untilAddress('overhead');
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const parts = partsOf(qemuPid('berth-overhead'), asked.memoryMib);
  await node.run('instance.delete', { id: 'overhead' });
  return [
    caseOf({ case: `${shape}: QEMU itself`, unit: 'MiB', ours: [parts.own], goal: overheadMibOf(asked) }),
    caseOf({ case: `${shape}: its code on disk`, unit: 'MiB', ours: [parts.code], goal: null }),
    caseOf({ case: `${shape}: translated code (no KVM)`, unit: 'MiB', ours: [parts.translated], goal: null }),
  ];
}

interface Mapping {
  permissions: string;
  file: string;
  sizeMib: number;
  residentMib: number;
}

/** The guest's memory is the one mapping of exactly its size. */
function partsOf(pid: number, memoryMib: number): Record<'own' | 'code' | 'translated', number> {
  const mappings = mappingsOf(readFileSync(`/proc/${pid}/smaps`, 'utf8'));
  const memory = mappings.find(
    ({ permissions, sizeMib }) => !permissions.includes('x') && sizeMib === memoryMib,
  );
  if (memory === undefined) throw new Error(`QEMU ${pid} has no mapping of ${memoryMib} MiB`);
  const sum = (which: (mapping: Mapping) => boolean) =>
    mappings
      .filter((each) => each !== memory && which(each))
      .reduce((all, { residentMib }) => all + residentMib, 0);
  const isTranslated = ({ permissions }: Mapping) => permissions.includes('wx');
  const isCode = ({ file, permissions }: Mapping) => file.startsWith('/') && !permissions.includes('w');
  return {
    own: sum((each) => !isTranslated(each) && !isCode(each)),
    code: sum(isCode),
    translated: sum(isTranslated),
  };
}

/** @see proc(5), /proc/pid/smaps */
function mappingsOf(smaps: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of smaps.split('\n')) {
    const head = /^[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+\s*(.*)$/.exec(line);
    if (head !== null)
      mappings.push({ permissions: head[1] ?? '', file: head[2] ?? '', sizeMib: 0, residentMib: 0 });
    const amount = /^(Size|Rss):\s+(\d+) kB$/.exec(line);
    const last = mappings.at(-1);
    if (amount === null || last === undefined) continue;
    last[amount[1] === 'Size' ? 'sizeMib' : 'residentMib'] = Number(amount[2]) / KIB_PER_MIB;
  }
  return mappings;
}
