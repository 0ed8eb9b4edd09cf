/**
 * QEMU may end when it is asked for its block nodes: while it makes an image, and when a pull is over (docs/adr/0042). So
 * nothing that is asked again and again asks for them, and no image is made by a guest.
 */
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { Lab, takeTime, whyNotHere } from './lab.ts';
import { PrivateDaemon } from './private-daemon.ts';

takeTime(t);
const skip = await whyNotHere();

/** A guest with two disks whose changes can be kept. */
async function running(t: Test) {
  const daemon = await PrivateDaemon.open(t);
  const lab = await Lab.open(t, daemon.socketPath);
  const hypervisor = lab.driver(t);
  const disks = [await lab.trackedDisk(), await lab.trackedDisk()];
  const definition = await lab.emptyGuest();
  const { id } = definition;
  await hypervisor.define({ ...definition, disks: [...definition.disks, ...disks] });
  await hypervisor.start(id);
  const during = async (work: () => Promise<unknown>) => {
    const before = (await daemon.commands()).length;
    await work();
    return (await daemon.commands()).slice(before);
  };
  return { lab, hypervisor, id, disks, during };
}

t.test('the usage and the state of guests are read without their block nodes', { skip }, async (t) => {
  const { hypervisor, id, disks, during } = await running(t);
  const commands = await during(async () => {
    for (let round = 0; round < 2; round++) {
      await hypervisor.observe();
      await hypervisor.observeGuest(id);
      const usage = (await hypervisor.usage()).find((usage) => usage.id === id);
      t.equal(usage?.disks.size, disks.length + 1);
    }
  });
  t.ok(commands.includes('query-blockstats'), 'the monitors were heard');
  t.notOk(commands.includes('query-named-block-nodes'));
});

t.test('disks are copied without an image that QEMU makes', { skip }, async (t) => {
  const { lab, hypervisor, id, disks, during } = await running(t);
  const copies = disks.map(({ serial, path }) => ({ serial, path: `${path}.copy` }));
  for (const { path } of copies) await lab.makeEmpty(path);
  const commands = await during(() =>
    hypervisor.copyDisks(id, { copies, checkpoint: `berth-${randomUUID()}` }),
  );
  t.ok(commands.includes('blockdev-add'), 'the monitors were heard');
  t.notOk(commands.includes('blockdev-create'));
});

t.test('layers are put on disks without an image that QEMU makes', { skip }, async (t) => {
  const { lab, hypervisor, id, disks, during } = await running(t);
  const overlays = await Promise.all(disks.map((disk) => lab.overlayOn(disk)));
  const commands = await during(() =>
    hypervisor.switchDisks(id, overlays, { quiesce: false, memoryPath: null }),
  );
  t.ok(commands.includes('blockdev-add'), 'the monitors were heard');
  t.notOk(commands.includes('blockdev-create'));
});
