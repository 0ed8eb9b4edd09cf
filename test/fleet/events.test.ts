/** How loss and doubling are counted. */
import t from 'tap';
import { compareEvents, ledgerEntryOf, sumOfCounts } from '../../fleet/events.ts';
import type { BerthEvent } from '../../src/model/event.ts';

function event(seq: number, data: Record<string, unknown> = {}): BerthEvent {
  return { seq, type: 'inventory.changed', at: '2026-01-01T00:00:00.000Z', target: null, data };
}

const written = [event(1), event(2), event(3)].map(ledgerEntryOf);

t.test('events that are stored as they were written are neither lost nor doubled', async (t) => {
  t.same(compareEvents(written, written), { sent: 3, lost: 0, doubled: 0 });
});

t.test('an event that is not stored is lost', async (t) => {
  t.same(compareEvents(written, [written[0]!, written[2]!]), { sent: 3, lost: 1, doubled: 0 });
});

t.test('an event that is stored twice is doubled, under its own number or another', async (t) => {
  t.match(compareEvents(written, [...written, written[1]!]), { lost: 0, doubled: 1 });
  const again = ledgerEntryOf({ ...event(2), seq: 4 });
  t.match(compareEvents(written, [...written, again]), { lost: 0, doubled: 1 });
});

t.test('another event under a number is a doubled one, and the own one is lost', async (t) => {
  const other = ledgerEntryOf(event(2, { of: 'another' }));
  t.same(compareEvents(written, [written[0]!, other, written[2]!]), { sent: 3, lost: 1, doubled: 1 });
});

t.test('how an event came says nothing of what it is', async (t) => {
  t.same(ledgerEntryOf({ ...event(9), after: 3 }), ledgerEntryOf(event(9)));
});

t.test('counts of several agents add up', async (t) => {
  const one = { sent: 3, lost: 1, doubled: 2 };
  t.same(sumOfCounts([one, one]), { sent: 6, lost: 2, doubled: 4 });
  t.same(sumOfCounts([]), { sent: 0, lost: 0, doubled: 0 });
});
