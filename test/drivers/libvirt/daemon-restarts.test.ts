/**
 * libvirtd, or a guest’s QEMU, ends, is killed and comes back.
 */
import t from 'tap';
import type { GuestEvent } from '../../../src/drivers/contracts/hypervisor.ts';
import { Lab, openDriver, takeTime, until, whyNotHere } from './lab.ts';
import { PrivateDaemon } from './private-daemon.ts';

takeTime(t);
const skip = await whyNotHere();

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`a guest outlives its libvirtd ended by ${signal}, and is found again`, { skip }, async (t) => {
    const daemon = await PrivateDaemon.open(t);
    const lab = await Lab.open(t, daemon.socketPath);
    const hypervisor = lab.driver(t);
    const definition = await lab.emptyGuest();
    const { id } = definition;
    await hypervisor.define(definition);
    await hypervisor.start(id);
    const pid = await lab.qemuPid(id);
    const told: GuestEvent[] = [];
    hypervisor.subscribe((event) => void told.push(event));
    await daemon.stop(signal);
    await until('the loss to be noticed', () => !hypervisor.health().connected);
    await t.rejects(hypervisor.observeGuest(id), { code: 'UNAVAILABLE' }, 'unknown, not absent');
    await t.rejects(hypervisor.destroy(id), { code: 'UNAVAILABLE' });
    await daemon.start();
    await until('the gap', () => told.some(({ type }) => type === 'gap'));
    t.equal(hypervisor.health().connected, true);
    t.match(await hypervisor.observeGuest(id), {
      power: 'running',
      ours: true,
      metadata: definition.metadata,
    });
    t.equal(await lab.qemuPid(id), pid, 'the same QEMU');
    t.notOk(
      told.some((event) => event.type === 'power' && event.guest?.power !== 'running'),
      'never told stopped',
    );
  });
}

for (const firmware of ['bios', 'uefi'] as const) {
  t.test(
    `a ${firmware} guest’s definition is the same to a libvirtd that reads it again`,
    { skip },
    async (t) => {
      const daemon = await PrivateDaemon.open(t);
      const lab = await Lab.open(t, daemon.socketPath);
      const hypervisor = lab.driver(t);
      const [stopped, running] = [await lab.emptyGuest({ firmware }), await lab.emptyGuest({ firmware })];
      const kept = [await hypervisor.define(stopped), await hypervisor.define(running)];
      await hypervisor.start(running.id);
      await daemon.stop('SIGTERM');
      await daemon.start();
      await until('the connection', () => hypervisor.health().connected);
      const seen = [await hypervisor.observeGuest(stopped.id), await hypervisor.observeGuest(running.id)];
      t.same(
        seen.map((guest) => guest?.definition),
        kept,
      );
      await hypervisor.destroy(running.id);
      t.same((await hypervisor.observeGuest(running.id))?.definition, kept[1], 'and after a stop');
    },
  );
}

t.test('a driver that is opened before its daemon finds it, and tells a gap', { skip }, async (t) => {
  const daemon = await PrivateDaemon.open(t);
  await daemon.stop('SIGTERM');
  const hypervisor = openDriver(t, daemon.socketPath);
  const told: GuestEvent[] = [];
  hypervisor.subscribe((event) => void told.push(event));
  await t.rejects(hypervisor.observe(), { code: 'UNAVAILABLE' });
  t.match(hypervisor.health(), { connected: false });
  await daemon.start();
  await until('the gap', () => told.some(({ type }) => type === 'gap'));
  t.same(await hypervisor.observe(), []);
});

t.test('a QEMU that is killed leaves a crashed guest, which can be started again', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const definition = await lab.emptyGuest();
  const { id } = definition;
  const told: GuestEvent[] = [];
  hypervisor.subscribe((event) => void told.push(event));
  await hypervisor.define(definition);
  await hypervisor.start(id);
  process.kill(await lab.qemuPid(id), 'SIGKILL');
  const isCrash = (event: GuestEvent) =>
    event.type === 'power' && event.id === id && event.guest?.power === 'crashed';
  await until('the event of the crash', () => told.some(isCrash));
  t.match(await hypervisor.observeGuest(id), { power: 'crashed' });
  await hypervisor.start(id);
  t.match(await hypervisor.observeGuest(id), { power: 'running' });
});
