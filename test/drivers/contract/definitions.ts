/**
 * The contract of Hypervisor about definitions that others change, as tests: each implementation calls
 * `definitionContract` with a bench that has hands for it, and passes all of it.
 */
import type { Test } from 'tap';
import type { GuestEvent, Hypervisor, ObservedGuest } from '../../../src/drivers/contracts/hypervisor.ts';
import { type HypervisorBench, rejectsWith, until, watch } from './hypervisor-bench.ts';

export type Place = 'definition' | 'live' | 'both';

/** What others on the host do to definitions, without the driver. */
export interface DefinitionBench extends HypervisorBench {
  others: {
    rename(id: string, name: string): Promise<void>;
    /** Gives the definition this many virtual CPUs; the guest does not run. */
    setVcpus(id: string, vcpus: number): Promise<void>;
    /** Changes something that GuestShape does not have. */
    changeOtherwise(id: string): Promise<void>;
    /** Adds a disk, and tells its path. */
    attachDisk(id: string, to: Place): Promise<string>;
    /** Takes a disk out of the definition. @param path Of `attachDisk`. */
    detachDisk(id: string, path: string): Promise<void>;
    /** Takes memory from the running guest without changing its definition. */
    balloon(id: string): Promise<void>;
    start(id: string): Promise<void>;
  };
}

export function definitionContract(t: Test, name: string, make: (t: Test) => Promise<DefinitionBench>): void {
  t.test(`${name} keeps the contract of Hypervisor about definitions`, async (t) => {
    keptTests(t, make);
    changeTests(t, make);
    absenceTests(t, make);
    renameTests(t, make);
  });
}

function keptTests(t: Test, make: (t: Test) => Promise<DefinitionBench>): void {
  t.test('what is defined is observed in the shape that it was defined in', async (t) => {
    const bench = await make(t);
    const definition = bench.definition();
    const { id, name, vcpus, memoryMib, firmware } = definition;
    const kept = await bench.hypervisor.define(definition);
    const disks = definition.disks.map(({ serial, path, format, readOnly }) => ({
      serial,
      path,
      format,
      readOnly,
    }));
    t.same(kept.shape, { name, vcpus, memoryMib, firmware, disks, nics: definition.nics });
    const observed = await bench.hypervisor.observeGuest(id);
    t.same(observed?.definition, kept, 'and kept as define has said');
    t.equal(observed?.live, null);
  });

  t.test(
    'what the driver does itself changes no definition, and what runs is what was defined',
    async (t) => {
      const bench = await make(t);
      const { hypervisor } = bench;
      const definition = bench.definition();
      const { id } = definition;
      const kept = await hypervisor.define(definition);
      t.same(await hypervisor.define(definition), kept, 'the same again is the same');
      await hypervisor.start(id);
      const running = await observed(hypervisor, id);
      t.same(running.definition, kept, 'a start');
      t.same(running.live, { disks: kept.shape.disks, nics: kept.shape.nics });
      await bench.outside.pause(id);
      await hypervisor.start(id);
      await bench.others.balloon(id);
      t.same((await observed(hypervisor, id)).definition, kept, 'a balloon');
      await hypervisor.destroy(id);
      t.same((await observed(hypervisor, id)).definition, kept, 'a stop');
      const next = await bench.reopen();
      t.same((await observed(next, id)).definition, kept, 'another driver');
    },
  );
}

function changeTests(t: Test, make: (t: Test) => Promise<DefinitionBench>): void {
  t.test('each change by others is told, observed, and mended by a define', async (t) => {
    const bench = await make(t);
    const { hypervisor, others } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const kept = await hypervisor.define(definition);
    const changes: Record<string, (guest: ObservedGuest) => boolean> = {
      setVcpus: ({ definition }) => definition?.shape.vcpus === kept.shape.vcpus + 1,
      changeOtherwise: ({ definition }) =>
        definition?.digest !== kept.digest && same(definition?.shape, kept.shape),
      attachDisk: ({ definition }) => definition?.shape.disks.length === kept.shape.disks.length + 1,
    };
    for (const [name, isSeen] of Object.entries(changes)) {
      const seen = watch(hypervisor, id);
      await observed(hypervisor, id); // it is remembered, where a driver remembers
      if (name === 'setVcpus') await others.setVcpus(id, kept.shape.vcpus + 1);
      else if (name === 'changeOtherwise') await others.changeOtherwise(id);
      else await others.attachDisk(id, 'definition');
      await until(t, bench, `the event of ${name}`, () => tellsOfDefinition(seen));
      t.ok(isSeen(await observed(hypervisor, id)), name);
      t.same(await hypervisor.define(definition), kept, 'and it is mended');
      t.same((await observed(hypervisor, id)).definition, kept);
    }
  });

  t.test('a disk that others add to the running guest alone is seen there alone', async (t) => {
    const bench = await make(t);
    const { hypervisor, others } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const kept = await hypervisor.define(definition);
    await hypervisor.start(id);
    await observed(hypervisor, id);
    const seen = watch(hypervisor, id);
    const path = await others.attachDisk(id, 'live');
    await until(t, bench, 'the event', () => tellsOfDefinition(seen));
    const after = await observed(hypervisor, id);
    t.same(after.definition, kept);
    t.equal(after.live?.disks.length, kept.shape.disks.length + 1);
    t.ok(after.live?.disks.some((disk) => disk.path === path));
    await hypervisor.destroy(id);
    t.equal((await observed(hypervisor, id)).live, null, 'and goes with the stop');
  });

  t.test('a disk that others add to the definition of a running guest does not run yet', async (t) => {
    const bench = await make(t);
    const { hypervisor, others } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const kept = await hypervisor.define(definition);
    await hypervisor.start(id);
    await observed(hypervisor, id);
    const seen = watch(hypervisor, id);
    const path = await others.attachDisk(id, 'definition');
    await until(t, bench, 'the event', () => tellsOfDefinition(seen));
    const after = await observed(hypervisor, id);
    t.ok(after.definition?.shape.disks.some((disk) => disk.path === path));
    t.equal(after.live?.disks.length, kept.shape.disks.length);
    await others.detachDisk(id, path);
    await until(
      t,
      bench,
      'its end',
      async () => (await observed(hypervisor, id)).definition?.digest === kept.digest,
    );
    t.match(await hypervisor.observeGuest(id), { power: 'running' });
  });
}

function absenceTests(t: Test, make: (t: Test) => Promise<DefinitionBench>): void {
  t.test('a guest that others undefine while it runs goes on running, and is defined again', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const definition = bench.definition();
    const { id } = definition;
    const kept = await hypervisor.define(definition);
    await hypervisor.start(id);
    const seen = watch(hypervisor, id);
    await bench.outside.undefine(id);
    await until(t, bench, 'the event', () => tellsOfDefinition(seen));
    t.match(await hypervisor.observeGuest(id), {
      power: 'running',
      ours: true,
      definition: null,
      metadata: definition.metadata,
    });
    t.same(await hypervisor.define(definition), kept);
    t.match(await hypervisor.observeGuest(id), { power: 'running', definition: kept });
    await hypervisor.destroy(id);
    t.match(
      await hypervisor.observeGuest(id),
      { power: 'stopped', definition: kept },
      'it does not go with its stop',
    );
  });

  t.test('a guest that runs without a definition goes with its stop', async (t) => {
    const bench = await make(t);
    const { hypervisor } = bench;
    const { id } = await definedAndStarted(bench);
    await bench.outside.undefine(id);
    await hypervisor.destroy(id);
    t.equal(await hypervisor.observeGuest(id), null);
  });
}

function renameTests(t: Test, make: (t: Test) => Promise<DefinitionBench>): void {
  t.test(
    'a guest that others rename is ours under its new name, and a define gives it its own back',
    async (t) => {
      const bench = await make(t);
      const { hypervisor, others } = bench;
      const definition = bench.definition();
      const { id, name } = definition;
      const kept = await hypervisor.define(definition);
      const seen = watch(hypervisor, id);
      await others.rename(id, `${name}-x`);
      await until(t, bench, 'the event', () => tellsOfDefinition(seen));
      const renamed = await observed(hypervisor, id);
      t.match(renamed, { ours: true, power: 'stopped', name: `${name}-x` });
      t.equal(renamed.definition?.shape.name, `${name}-x`);
      t.same(await hypervisor.define(definition), kept);
      t.match(await hypervisor.observeGuest(id), { name, definition: kept });
    },
  );

  t.test('a renamed guest that runs keeps its name until it is stopped', async (t) => {
    const bench = await make(t);
    const { hypervisor, others } = bench;
    const definition = bench.definition();
    const { id, name } = definition;
    await hypervisor.define(definition);
    await others.rename(id, `${name}-x`);
    await others.start(id);
    await rejectsWith(t, 'ILLEGAL_STATE', hypervisor.define(definition));
    t.match(await hypervisor.observeGuest(id), { name: `${name}-x`, power: 'running' });
    await hypervisor.destroy(id);
    await hypervisor.define(definition);
    t.match(await hypervisor.observeGuest(id), { name, power: 'stopped' });
  });

  t.test('a name that is taken meanwhile is not given back', async (t) => {
    const bench = await make(t);
    const { hypervisor, others } = bench;
    const [first, second] = [bench.definition(), bench.definition()];
    await hypervisor.define(first);
    await others.rename(first.id, `${first.name}-x`);
    await hypervisor.define({ ...second, name: first.name });
    await rejectsWith(t, 'ALREADY_EXISTS', hypervisor.define(first));
    t.match(await hypervisor.observeGuest(first.id), { name: `${first.name}-x` });
  });
}

async function definedAndStarted({ hypervisor, definition }: DefinitionBench) {
  const made = definition();
  await hypervisor.define(made);
  await hypervisor.start(made.id);
  return made;
}

async function observed(hypervisor: Hypervisor, id: string): Promise<ObservedGuest> {
  const guest = await hypervisor.observeGuest(id);
  if (guest === null) throw new Error(`guest ${id} is not there`);
  return guest;
}

function tellsOfDefinition(seen: GuestEvent[]): boolean {
  return seen.some(({ type }) => type === 'definition');
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
