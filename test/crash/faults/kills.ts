/** berthd killed or stopped, at every moment that there is. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Counted, Deed, Moment } from '../node/protocol.ts';
import type { Case, CaseParts, Fault } from './fault.ts';
import { upTo } from './fault.ts';

const KILL: Deed = { do: 'signal', signal: 'SIGKILL' };
const BOTH = ['sim', 'libvirt'] as const;
/** Of host programs there are dozens an operation; each run of the laboratory takes others of them. */
const COMMANDS_SAMPLE = 10;
const TWICE_CASES = 3;
const ANY_TIME_CASES = 3;
const TERM_SAMPLE = 3;
/** Commits of a start and what it resumes, in which the second kill may come. */
const NEXT_COMMITS = 8;

function killAt(moment: Moment): Case {
  return { at: words(moment), trap: { ...moment, deed: KILL }, ends: 'SIGKILL' };
}

function words({ of, when, nth }: Moment): string {
  return `${when} ${of} ${nth}`;
}

function everyMoment(name: string, of: Counted, when: Moment['when']): Fault {
  return {
    name,
    drivers: BOTH,
    cases: ({ rehearsal }) => upTo(rehearsal.counts[of]).map((nth) => killAt({ of, when, nth })),
  };
}

export const KILLS: Fault[] = [
  everyMoment('SIGKILL before a commit', 'commit', 'before'),
  everyMoment('SIGKILL after a commit', 'commit', 'after'),
  everyMoment('SIGKILL after a driver call', 'call', 'after'),
  {
    name: 'SIGKILL after a host program',
    drivers: ['libvirt'],
    cases: ({ rehearsal, random }) =>
      random
        .sample(upTo(rehearsal.counts.command), COMMANDS_SAMPLE)
        .map((nth) => killAt({ of: 'command', when: 'after', nth })),
  },
  {
    name: 'SIGKILL, and again in the recovery',
    drivers: BOTH,
    cases: (parts) => upTo(TWICE_CASES).map((nth) => killedTwice(parts, nth)),
  },
  {
    name: 'SIGKILL at any time',
    drivers: BOTH,
    cases: (parts) => upTo(ANY_TIME_CASES).map((nth) => killedAtAnyTime(parts, nth)),
  },
  {
    name: 'SIGTERM in mid-operation',
    drivers: BOTH,
    cases: ({ rehearsal, random }) =>
      random.sample(upTo(rehearsal.counts.call), TERM_SAMPLE).map((nth): Case => {
        const moment: Moment = { of: 'call', when: 'before', nth };
        return {
          at: words(moment),
          trap: { ...moment, deed: { do: 'signal', signal: 'SIGTERM' } },
          ends: 'SIGTERM',
        };
      }),
  },
];

function killedTwice({ rehearsal, random }: CaseParts, nth: number): Case {
  const first = killAt({ of: 'commit', when: 'after', nth: random.between(1, rehearsal.counts.commit) });
  const second: Moment = {
    of: 'commit',
    when: random.pick(['before', 'after']),
    nth: random.between(1, NEXT_COMMITS),
  };
  return {
    ...first,
    at: `${nth}: ${first.at}, then ${words(second)}`,
    trapOfNext: { ...second, deed: KILL },
  };
}

function killedAtAnyTime({ rehearsal, random }: CaseParts, nth: number): Case {
  const afterMs = random.between(0, Math.ceil(rehearsal.durationMs));
  return {
    at: `${nth}: after ${afterMs} ms`,
    ends: 'SIGKILL',
    meanwhile: async ({ stand }) => {
      await delay(afterMs);
      stand.node.signal('SIGKILL');
      return [];
    },
  };
}
