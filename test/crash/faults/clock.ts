/** The host's clock set while an operation runs. What measures time by it would now wait for a day, or for nothing. */
import { type Fault, upTo } from './fault.ts';

const DAY_MS = 24 * 3600 * 1000;
const SAMPLE = 2;

export const CLOCK: Fault[] = [
  clockSet('the clock is set back a day', -DAY_MS),
  clockSet('the clock is set forward a day', DAY_MS),
];

function clockSet(name: string, offsetMs: number): Fault {
  return {
    name,
    drivers: ['sim', 'libvirt'],
    cases: ({ rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.commit), SAMPLE).map((nth) => ({
        at: `after commit ${nth}`,
        trap: { of: 'commit', when: 'after', nth, deed: { do: 'clock', offsetMs } },
        lift: ({ node }) => node.deed({ do: 'clock', offsetMs: 0 }),
      })),
  };
}
