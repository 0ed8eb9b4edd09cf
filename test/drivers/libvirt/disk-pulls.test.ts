/** Pulls under a real guest: slow ones, ended ones, and those that another berthd has begun. */
import t, { type Test } from 'tap';
import { Lab, look, whyNotHere } from './lab.ts';

const skip = await whyNotHere();
const MIB = 1024 ** 2;
/** Bytes a second at which the 8 MiB of a test's disk take minutes. */
const SLOW = 64 * 1024;

async function running(t: Test) {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const disk = { serial: 'layered', ...(await lab.layeredDisk()) };
  const definition = await lab.emptyGuest();
  const { id } = definition;
  await hypervisor.define({ ...definition, disks: [...definition.disks, disk] });
  await hypervisor.start(id);
  const domain = await lab.admin.domainLookupByUUIDString(id);
  const jobs = async () => (await domain.getBlockJobInfo('vdb')).found;
  return { lab, hypervisor, disk, id, domain, jobs };
}

t.test('a pull goes on without us, is taken up again, and can be made faster', { skip }, async (t) => {
  const { lab, hypervisor, disk, id, jobs } = await running(t);
  const caller = new AbortController();
  const slow = hypervisor.flattenDisk(id, disk.serial, {
    bytesPerSecond: SLOW,
    signal: caller.signal,
    onProgress: () => caller.abort(),
  });
  await t.rejects(slow, { code: 'CANCELLED' });
  t.equal(await jobs(), 1, 'the job is left alone');
  t.equal(await lab.backingOf(disk.path), disk.backing.path);
  await hypervisor.flattenDisk(id, disk.serial, { bytesPerSecond: 100 * MIB });
  t.equal(await lab.backingOf(disk.path), null);
});

t.test('a pull that is ended leaves the disk on its base, and the next one is done', { skip }, async (t) => {
  const { lab, hypervisor, disk, id, jobs } = await running(t);
  const slow = hypervisor.flattenDisk(id, disk.serial, { bytesPerSecond: SLOW });
  const outcome = slow.then(
    () => null,
    (error) => error,
  );
  while ((await jobs()) === 0) await look();
  await hypervisor.stopFlatten(id, disk.serial);
  t.match(await outcome, { code: 'UNAVAILABLE', message: /the job ended before/ });
  t.equal(await jobs(), 0);
  t.equal(await lab.backingOf(disk.path), disk.backing.path);
  await hypervisor.flattenDisk(id, disk.serial);
  t.equal(await lab.backingOf(disk.path), null);
});

t.test(
  'a pull whose guest is stopped is to be tried again, by whatever the host is then',
  { skip },
  async (t) => {
    const { lab, hypervisor, disk, id, jobs } = await running(t);
    const outcome = hypervisor.flattenDisk(id, disk.serial, { bytesPerSecond: SLOW }).then(
      () => null,
      (error) => error,
    );
    while ((await jobs()) === 0) await look();
    await hypervisor.destroy(id);
    t.match(await outcome, { code: 'UNAVAILABLE', message: /the guest stopped meanwhile/ });
    t.equal(await lab.backingOf(disk.path), disk.backing.path);
  },
);
