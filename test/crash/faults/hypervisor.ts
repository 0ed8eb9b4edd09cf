/** The hypervisor's daemon killed or frozen, and the guest's own process killed, while an operation runs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Deed, Moment } from '../node/protocol.ts';
import type { Scenario } from '../scenarios/scenario.ts';
import { SUBJECT } from '../scenarios/setting.ts';
import type { HypervisorDaemon, Stand } from '../stands/stand.ts';
import { type CaseParts, type Fault, upTo, type Watched } from './fault.ts';

const SAMPLE = 3;
/** How long the simulated hypervisor is out of reach, ms. */
const CUT_MS = 300;
/** As of the issue, ms. */
const FROZEN_MS = 30_000;
/** Pause between two calls of the node while its hypervisor is frozen, ms. */
const CALL_PAUSE_MS = 100;
/** What the node's answers may take then, ms: their median, since the machine has others to serve, too. */
const ANSWER_MS = 50;
/** By when the node has seen that its hypervisor does not answer, ms: one that is silent for 4 s is gone. */
const NOTICED_MS = 15_000;

function concernsGuests({ kind }: Scenario): boolean {
  return kind.startsWith('instance.');
}

export const HYPERVISOR: Fault[] = [
  {
    name: 'hypervisor killed and started',
    drivers: ['sim', 'libvirt'],
    suits: concernsGuests,
    cases: (parts) =>
      sampled(parts, ['before', 'after']).map((moment) => ({
        at: words(moment),
        trap: { ...moment, deed: killDaemon(parts.stand) },
        outcome: 'either',
        meanwhile: (watched) => startDaemon(watched),
      })),
  },
  {
    name: 'hypervisor frozen for 30 s',
    drivers: ['libvirt'],
    suits: ({ name }) => ['instance.create', 'instance.delete', 'volume.create'].includes(name),
    cases: ({ stand }) => [
      {
        at: 'before call 1',
        trap: { of: 'call', when: 'before', nth: 1, deed: freezeDaemon(stand) },
        outcome: 'either',
        meanwhile: watchFrozen,
      },
    ],
  },
  {
    name: "the guest's process killed",
    drivers: ['sim', 'libvirt'],
    suits: concernsGuests,
    cases: (parts) =>
      sampled(parts, ['after']).map((moment) => ({
        at: words(moment),
        trap: { ...moment, deed: killGuest(parts.stand) },
        outcome: 'either',
        endsGuest: true,
      })),
  },
];

function sampled({ rehearsal, random }: CaseParts, whens: readonly Moment['when'][]): Moment[] {
  const moments = whens.flatMap((when) =>
    upTo(rehearsal.counts.call).map((nth): Moment => ({ of: 'call', when, nth })),
  );
  return random.sample(moments, SAMPLE);
}

function words({ of, when, nth }: Moment): string {
  return `${when} ${of} ${nth}`;
}

function killDaemon({ daemon }: Stand): Deed {
  if (daemon === null) return { do: 'world', change: { type: 'cut-hypervisor' } };
  return { do: 'run', argv: daemon.signalCommand('KILL') };
}

async function startDaemon({ stand, sprung }: Watched): Promise<string[]> {
  await sprung;
  if (stand.daemon === null) {
    await delay(CUT_MS);
    await stand.node.deed({ do: 'world', change: { type: 'mend-hypervisor' } });
  } else {
    await stand.daemon.kill();
    await stand.daemon.start();
  }
  return [];
}

function freezeDaemon({ daemon }: Stand): Deed {
  return { do: 'run', argv: (daemon as HypervisorDaemon).signalCommand('STOP') };
}

/** While nothing can be asked: the node answers at once, says that it does not know, and touches nothing. */
async function watchFrozen({ stand, sprung }: Watched): Promise<string[]> {
  await sprung;
  const processes = await stand.processes();
  const startedMs = performance.now();
  const tookMs: number[] = [];
  let unknownAfterMs: number | null = null;
  while (performance.now() - startedMs < FROZEN_MS) {
    const askedMs = performance.now();
    const { instances } = await stand.node.call('instance.list');
    tookMs.push(performance.now() - askedMs);
    const isUnknown = instances.every(
      ({ lifecycle, power }) => lifecycle !== 'ready' || power.state === 'unknown',
    );
    if (isUnknown) unknownAfterMs ??= performance.now() - startedMs;
    await delay(CALL_PAUSE_MS);
  }
  const after = await stand.processes();
  stand.daemon?.thaw();
  return [
    ...slowness(tookMs),
    ...(unknownAfterMs === null || unknownAfterMs > NOTICED_MS
      ? [`states were unknown after ${unknownAfterMs} ms, not within ${NOTICED_MS} ms`]
      : []),
    ...[...processes]
      .filter(([id, process]) => after.get(id) !== process)
      .map(([id]) => `guest ${id} is gone`),
  ];
}

function slowness(tookMs: readonly number[]): string[] {
  const median = tookMs.toSorted((a, b) => a - b)[Math.floor(tookMs.length / 2)] as number;
  return median <= ANSWER_MS ? [] : [`the node's answers took ${Math.round(median)} ms, not ${ANSWER_MS} ms`];
}

/** One that does not run has no process to lose. */
function killGuest({ driver }: Stand): Deed {
  const name = `berth-${SUBJECT}`;
  if (driver === 'sim') return { do: 'world', change: { type: 'crash-guest', name } };
  const script = 'kill -KILL "$(cat "$1")" || true';
  return { do: 'run', argv: ['bash', '-c', script, 'kill', `/run/libvirt/qemu/${name}.pid`] };
}
