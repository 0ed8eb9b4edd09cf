/**
 * The part of Hypervisor's contract that is about guests in trouble: panics and watchdogs.
 */
import type { Test } from 'tap';
import { able, type MakeBench, powers, until, watch } from './hypervisor-bench.ts';

export function alarmTests(t: Test, make: MakeBench): void {
  t.test('a panic is told once, before its crash, and the guest can be started again', async (t) => {
    const bench = await make(t);
    const panic = able(t, bench.panic);
    if (panic === null) return;
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const seen = watch(hypervisor, id);
    await hypervisor.define(definition);
    await hypervisor.start(id);
    await panic(id);
    await until(t, bench, 'the event of the crash', () => powers(seen).at(-1) === 'crashed');
    t.same(
      seen
        .map(({ type }) => type)
        .filter((type, at, all) => type !== 'agent' && type !== all[at - 1])
        .slice(-2),
      ['panicked', 'power'],
    );
    t.match(await hypervisor.observeGuest(id), { power: 'crashed' });
    // The host may still be busy with the dead process.
    await until(t, bench, 'the start after it', () =>
      hypervisor.start(id).then(
        () => true,
        () => false,
      ),
    );
    t.match(await hypervisor.observeGuest(id), { power: 'running' });
    t.equal(seen.filter(({ type }) => type === 'panicked').length, 1);
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
  });

  for (const [action, power] of [
    ['report', 'running'],
    ['poweroff', 'crashed'],
  ] as const) {
    test(action, power);
  }

  function test(action: 'report' | 'poweroff', power: string): void {
    t.test(`a watchdog that fires is told with what it does: ${action}`, async (t) => {
      const bench = await make(t);
      const fireWatchdog = able(t, bench.fireWatchdog);
      if (fireWatchdog === null) return;
      const { hypervisor } = bench;
      const definition = { ...bench.definition(), watchdog: action };
      const { id } = definition;
      const seen = watch(hypervisor, id);
      const fired = () => seen.filter(({ type }) => type === 'watchdog');
      await hypervisor.define(definition);
      await hypervisor.start(id);
      await fireWatchdog(id);
      await until(t, bench, 'the event of the watchdog', () => fired().length > 0);
      await until(t, bench, `the guest to be ${power}`, () => powers(seen).at(-1) === power);
      t.same(fired(), [{ type: 'watchdog', id, action }]);
      t.match(await hypervisor.observeGuest(id), { power });
      await hypervisor.destroy(id);
      await hypervisor.undefine(id);
    });
  }
}
