/**
 * The turn in which definitions are read again.
 */
import t from 'tap';
import { DefinitionSweep } from '../../../src/drivers/libvirt/definition-sweep.ts';
import { SimClock } from '../../../src/drivers/sim/index.ts';

/** A sweep over `ids`, which are read in turn as Definitions does it. */
function sweepOver(ids: string[], renew: (id: string) => Promise<boolean> = async () => false) {
  const clock = new SimClock();
  const known = [...ids];
  const [read, changed]: string[][] = [[], []];
  const sweep = new DefinitionSweep({
    clock,
    roundMs: 10_000,
    known: () => [...known],
    renew: (id) => {
      read!.push(id);
      known.push(...known.splice(known.indexOf(id), 1));
      return renew(id);
    },
    changed: (id) => void changed!.push(id),
  });
  sweep.start();
  return { clock, sweep, known, read: read!, changed: changed! };
}

t.test('each is read once within a round, a few at a time', async (t) => {
  const ids = Array.from({ length: 25 }, (_, index) => `g${index}`);
  const { clock, read } = sweepOver(ids);
  await clock.advance(1_000);
  t.equal(read.length, 3);
  await clock.advance(9_000);
  t.same(new Set(read), new Set(ids));
  t.ok(read.length < 2 * ids.length, 'and hardly more than once');
});

t.test('one that has changed is told, and one that can’t be read keeps nobody from being read', async (t) => {
  const { clock, read, changed } = sweepOver(['a', 'bad', 'c'], async (id) => {
    if (id === 'bad') throw new Error('it hangs');
    return id === 'c';
  });
  await clock.advance(4_000);
  t.same(new Set(read), new Set(['a', 'bad', 'c']));
  t.ok(changed.length > 0 && changed.every((id) => id === 'c'));
});

t.test('nothing is read where nothing is known, and nothing after its end', async (t) => {
  const { clock, sweep, known, read } = sweepOver([]);
  await clock.advance(20_000);
  t.same(read, []);
  known.push('a');
  await clock.advance(1_000);
  t.same(read, ['a']);
  sweep.close();
  await clock.advance(60_000);
  t.same(read, ['a']);
});
