/**
 * The part of Hypervisor's contract that is about the firmware variables of UEFI guests.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { GuestDefinition } from '../../../src/drivers/contracts/hypervisor.ts';
import { NVRAM_BYTES_LIMIT } from '../../../src/model/backup.ts';
import { ABSENT_ID, type MakeBench, rejectsWith, started } from './hypervisor-bench.ts';

export function nvramTests(t: Test, make: MakeBench): void {
  keptTests(t, make);
  copiedTests(t, make);
  givenTests(t, make);
}

function keptTests(t: Test, make: MakeBench): void {
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

function copiedTests(t: Test, make: MakeBench): void {
  t.test('a copy of the firmware variables is brought up to date, and put back elsewhere', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = { ...bench.definition(), firmware: 'uefi' as const };
    const { id, name } = definition;
    const { nvram } = hypervisor.keptPaths(name);
    const copy = bench.nvramPath();
    await hypervisor.define(definition);
    t.equal(await hypervisor.copyNvram(id, copy), false, 'one that was never started has none');
    t.notOk(await bench.exists(copy));
    await hypervisor.start(id);
    t.equal(await hypervisor.copyNvram(id, copy), true, 'while it runs');
    await hypervisor.destroy(id);
    for (const _time of [1, 2, 3]) {
      await bench.changeVariables(nvram);
      t.equal(await hypervisor.copyNvram(id, copy), true);
      t.equal(await bench.variablesIn(copy), await bench.variablesIn(nvram), 'however soon after another');
    }
    await bench.changeVariables(nvram);
    await hypervisor.restoreNvram(id, copy);
    t.equal(await bench.variablesIn(nvram), await bench.variablesIn(copy));
    await hypervisor.undefine(id);
    t.ok(await bench.exists(copy), 'it outlives the guest');
    await rejectsWith(t, 'NOT_FOUND', hypervisor.copyNvram(id, copy));
    const foreign = await bench.makeForeign();
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.copyNvram(foreign.id, copy));
  });
}

function givenTests(t: Test, make: MakeBench): void {
  t.test('a guest that does not run is given the firmware variables of another host', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const [from, to] = [0, 1].map(() => ({ ...bench.definition(), firmware: 'uefi' as const })) as [
      GuestDefinition,
      GuestDefinition,
    ];
    const kept = bench.nvramPath();
    for (const definition of [from, to]) await hypervisor.define(definition);
    await hypervisor.start(from.id);
    await hypervisor.destroy(from.id);
    const { nvram } = hypervisor.keptPaths(from.name);
    await bench.changeVariables(nvram);
    const text = await bench.variablesIn(nvram);
    const bytes = Buffer.from(text, 'latin1');
    await hypervisor.writeNvram(to.id, bytes);
    await hypervisor.writeNvram(to.id, bytes);
    t.equal(await hypervisor.keepNvram(to.id, kept), true, 'before its first start');
    t.equal(await bench.variablesIn(kept), text);
    await hypervisor.start(to.id);
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.writeNvram(to.id, bytes));
    await hypervisor.destroy(to.id);
    for (const size of [0, NVRAM_BYTES_LIMIT + 1])
      await rejectsWith(t, 'INVALID_ARGUMENT', hypervisor.writeNvram(to.id, Buffer.alloc(size)));
    t.equal((await hypervisor.listKept()).filter(({ guestName }) => guestName === to.name).length, 1);
    await hypervisor.undefine(to.id);
    t.notOk((await hypervisor.listKept()).some(({ guestName }) => guestName === to.name));
    await hypervisor.undefine(from.id);
    await rejectsWith(t, 'NOT_FOUND', hypervisor.writeNvram(ABSENT_ID, bytes));
    const foreign = await bench.makeForeign();
    await rejectsWith(t, 'HOST_CONFLICT', hypervisor.writeNvram(foreign.id, bytes));
  });
}
