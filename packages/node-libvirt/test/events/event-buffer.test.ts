import t from 'tap';
import { LibvirtTransportError } from '../../src/errors.ts';
import { EventBuffer } from '../../src/events/event-buffer.ts';
import type { Gap } from '../../src/events/events.ts';
import fc from '../support/property.ts';

function gapNamed(name = ''): Gap {
  return { cause: new LibvirtTransportError('closed', name), lost: [] };
}

/** What a reader gets, in short. */
function drain(buffer: EventBuffer<number>): string[] {
  const seen: string[] = [];
  for (let item = buffer.take(); item !== undefined; item = buffer.take()) {
    if (item.type === 'event') seen.push(`${item.event}`);
    else seen.push(item.type === 'gap' ? `gap ${item.gap.cause.message}` : `-${item.dropped}`);
  }
  return seen;
}

t.test('what is missing is told in its place', (t) => {
  const buffer = new EventBuffer<number>(2);
  for (const number of [1, 2, 3, 4]) buffer.add(number);
  buffer.addGap(gapNamed('1'));
  buffer.add(5);
  buffer.addGap(gapNamed('2'));
  t.same(drain(buffer), ['1', '2', '-3', 'gap 2']);
  buffer.addGap(gapNamed('3'));
  buffer.add(6);
  buffer.addGap(gapNamed('4'));
  buffer.addGap(gapNamed('5'));
  t.same(drain(buffer), ['gap 3', '6', 'gap 5']);
  t.end();
});

t.test('a buffer of any size keeps its bound, its order and its count, and no gap is lost', (t) => {
  const step = fc.constantFrom('event', 'gap', 'take');
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 60 }), (max, steps) => {
      const buffer = new EventBuffer<number>(max);
      const seen: (string | number)[] = [];
      let added = 0;
      const take = () => {
        const item = buffer.take();
        if (item === undefined) return false;
        if (item.type === 'event') seen.push(item.event);
        else if (item.type === 'gap') seen.push(item.gap.cause.message);
        else for (let count = 0; count < item.dropped; count++) seen.push('dropped');
        return true;
      };
      const gaps: string[] = [];
      for (const one of steps) {
        if (one === 'take') take();
        else if (one === 'event') buffer.add(added++);
        else {
          gaps.push(`${gaps.length}th gap`);
          buffer.addGap(gapNamed(gaps.at(-1)));
        }
      }
      let left = 0;
      while (take()) left++;
      const events = seen.filter((one) => typeof one === 'number');
      const isOrdered = events.every((one, index) => index === 0 || one > Number(events[index - 1]));
      const isCounted = events.length + seen.filter((one) => one === 'dropped').length === added;
      const isGapTold = gaps.length === 0 || seen.includes(gaps.at(-1) ?? '');
      return left <= max + 2 && isOrdered && isCounted && isGapTold;
    }),
    { numRuns: 2_000 },
  );
  t.end();
});
