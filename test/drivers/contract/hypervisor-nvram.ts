/**
 * The part of Hypervisor's contract that is about the firmware variables of UEFI guests.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import { ABSENT_ID, type MakeBench, rejectsWith, started } from './hypervisor-bench.ts';

export function nvramTests(t: Test, make: MakeBench): void {
  t.test('the firmware variables of a UEFI guest are kept, and put back', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = { ...bench.definition(), firmware: 'uefi' as const };
    const { id, name } = definition;
    const nvram = hypervisor.keptPaths(name).nvram;
    const [kept, early] = [bench.nvramPath(), bench.nvramPath()];
    await hypervisor.define(definition);
    t.equal(await hypervisor.keepNvram(id, early), false, 'one that was never started has none');
    t.notOk(await bench.exists(early));
    await hypervisor.start(id);
    t.equal(await hypervisor.keepNvram(id, kept), true, 'while it runs');
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.restoreNvram(id, kept));
    await hypervisor.destroy(id);
    const before = await bench.variablesIn(kept);
    await bench.changeVariables(nvram);
    const changed = await bench.variablesIn(nvram);
    t.not(changed, before);
    t.equal(await hypervisor.keepNvram(id, kept), true);
    t.equal(await bench.variablesIn(kept), before, 'what is kept is not kept again');
    const after = bench.nvramPath();
    t.equal(await hypervisor.keepNvram(id, after), true, 'while it is down');
    t.equal(await bench.variablesIn(after), changed);
    await hypervisor.restoreNvram(id, kept);
    await hypervisor.restoreNvram(id, kept);
    t.equal(await bench.variablesIn(nvram), before);
    t.ok(await bench.exists(kept), 'and kept on');
    await rejectsWith(t, 'NOT_FOUND', hypervisor.restoreNvram(id, bench.nvramPath()));
    t.equal(await bench.variablesIn(nvram), before);
    await hypervisor.start(id);
    t.equal((await hypervisor.observeGuest(id))?.power, 'running', 'it starts with them');
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
    t.notOk((await hypervisor.listKept()).some(({ path }) => path === nvram));
  });

  t.test('a BIOS guest has no firmware variables, and an absent one is not found', async (t) => {
    const { bench, hypervisor, definition } = await started(t, make);
    const path = bench.nvramPath();
    t.equal(await hypervisor.keepNvram(definition.id, path), false);
    t.notOk(await bench.exists(path));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.keepNvram(ABSENT_ID, path));
    await rejectsWith(t, 'NOT_FOUND', hypervisor.restoreNvram(randomUUID(), path));
    const foreign = await bench.makeForeign();
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.keepNvram(foreign.id, path));
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.restoreNvram(foreign.id, path));
    await hypervisor.destroy(definition.id);
    await hypervisor.undefine(definition.id);
  });
}
