/** File systems that are full or read-only: of the pool, and of the state. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Deed } from '../node/protocol.ts';
import type { Scenario } from '../scenarios/scenario.ts';
import type { Disk } from '../stands/disk.ts';
import type { Stand } from '../stands/stand.ts';
import { type Case, type Fault, upTo, type Watched } from './fault.ts';

const SAMPLE = 4;
/** How long a disk stays full or read-only, ms: longer than the pauses after which a step is first tried again. */
const FAULT_MS = 700;

/** Those that write into the pool, or start what reads from it. */
function writesPool({ kind }: Scenario): boolean {
  return /^(instance\.(create|start|delete)|(image|volume)\.)/.test(kind);
}

export const DISKS: Fault[] = [
  {
    name: 'the pool is full',
    drivers: ['sim', 'libvirt'],
    suits: writesPool,
    cases: ({ stand, rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.call), SAMPLE).map((nth) => ({
        ...atCall(nth, fillPool(stand)),
        lift: async () => {
          if (stand.poolDisk === null) await stand.node.deed({ do: 'world', change: { type: 'empty-pool' } });
          else stand.poolDisk.free();
        },
      })),
  },
  {
    name: 'the pool is read-only',
    drivers: ['libvirt'],
    suits: writesPool,
    cases: ({ stand, rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.call), SAMPLE).map((nth) => ({
        ...atCall(nth, { do: 'run', argv: (stand.poolDisk as Disk).coverCommand }),
        meanwhile: async ({ sprung }) => {
          await sprung;
          await delay(FAULT_MS);
          stand.poolDisk?.uncover();
          return [];
        },
      })),
  },
  {
    name: 'the disk of the state is full',
    drivers: ['sim', 'libvirt'],
    cannot: cannotMount,
    cases: ({ stand, rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.commit), SAMPLE).map((nth) => ({
        ...atCommit(nth, { do: 'run', argv: (stand.stateDisk as Disk).fillCommand }),
        outcome: 'either',
        meanwhile: async (watched) => {
          const wrong = await stillAnswers(watched);
          stand.stateDisk?.free();
          return wrong;
        },
      })),
  },
  {
    name: 'the disk of the state breaks',
    drivers: ['sim', 'libvirt'],
    cannot: cannotMount,
    cases: ({ stand, rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.commit), SAMPLE).map((nth) => ({
        ...atCommit(nth, { do: 'run', argv: (stand.stateDisk as Disk).breakCommand }),
        outcome: 'either',
        ends: 'SIGKILL',
        meanwhile: async (watched) => {
          const wrong = await stillAnswers(watched);
          watched.stand.node.signal('SIGKILL');
          return wrong;
        },
        between: async () => {
          stand.stateDisk?.repair();
          return [];
        },
      })),
  },
];

function atCall(nth: number, deed: Deed): Case {
  return { at: `before call ${nth}`, trap: { of: 'call', when: 'before', nth, deed }, outcome: 'either' };
}

function atCommit(nth: number, deed: Deed): Case {
  return { at: `before commit ${nth}`, trap: { of: 'commit', when: 'before', nth, deed } };
}

function fillPool({ poolDisk }: Stand): Deed {
  if (poolDisk === null) return { do: 'world', change: { type: 'fill-pool' } };
  return { do: 'run', argv: poolDisk.fillCommand };
}

function cannotMount({ stateDisk }: Stand): string | false {
  return stateDisk === null ? 'needs root' : false;
}

/** Reads need no disk. */
async function stillAnswers({ stand, sprung }: Watched): Promise<string[]> {
  await sprung;
  await delay(FAULT_MS);
  return stand.node.call('node.status').then(
    () => [],
    (error: Error) => [`the node did not say how it is: ${error.message}`],
  );
}
