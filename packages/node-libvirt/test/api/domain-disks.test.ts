/** Domain: its disks, their limits, and the jobs that rearrange their images. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { until } from '../support/until.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import {
  defineGuest,
  GUEST_HOST,
  GUEST_PROGRAMS,
  guestXml,
  ifDaemonHas,
  once,
  qcow2Disk,
} from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { VIR_DOMAIN_START_PAUSED: paused } = constants.virDomainCreateFlags;
const { VIR_DOMAIN_BLOCK_RESIZE_BYTES: inBytes } = constants.virDomainBlockResizeFlags;
const { VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB: transient } = constants.virDomainBlockCopyFlags;
const { VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT: pivot } = constants.virDomainBlockJobAbortFlags;
const MIB = 1024 ** 2;

const called = record(Domain, DOMAIN_SHARES, 'disks');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

/** Shared by the tests of this file, which follow on each other. */
const guest = once(async () => {
  const { host } = daemon();
  const path = (name: string) => join(host.dir, `${name}.qcow2`);
  const raw = join(host.dir, 'raw.img');
  writeFileSync(raw, Buffer.alloc(MIB, 'nad'));
  const devices = [
    await qcow2Disk(host, 'vda', ['bottom', 'middle', 'top']),
    await qcow2Disk(host, 'vdb', ['below', 'above']),
    `<disk type='file' device='disk'><source file='${raw}'/><target dev='vdc' bus='virtio'/></disk>`,
  ];
  const connection = await connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-disks', devices: devices.join('') }));
  await domain.createWithFlags(paused);
  return { domain, path };
});

t.test('a domain tells how much it has read and written, and how big its disks are', { skip }, async (t) => {
  const { domain } = await guest();
  const stats = await domain.blockStats('vda');
  t.match(stats, { rd_req: BigInt, rd_bytes: BigInt, errs: BigInt });
  t.hasStrict(stats, { wr_req: 0n, wr_bytes: 0n });
  t.hasStrict(await domain.blockStatsFlags('vda'), { wr_operations: 0n, wr_bytes: 0n });
  t.match(await domain.getBlockInfo('vda'), { allocation: BigInt, physical: BigInt });
  t.equal((await domain.getBlockInfo('vda')).capacity, BigInt(4 * MIB));
  t.equal((await domain.getBlockInfo('vdc')).capacity, BigInt(MIB));
  t.strictSame(await domain.getDiskErrors(), []);
});

t.test('the disks of a domain can be read', { skip }, async (t) => {
  const { domain } = await guest();
  const bytes = await domain.blockPeek('vdc', 3n, 9);
  t.ok(bytes instanceof Uint8Array);
  t.equal(Buffer.from(bytes).toString(), 'nadnadnad');
  t.equal((await domain.blockPeek('vdc', MIB - 2, 2)).length, 2);
});

t.test('what a disk may read and write is limited', { skip }, async (t) => {
  const { domain } = await guest();
  await domain.setBlockIoTune('vdb', { total_bytes_sec: 10 * MIB, read_iops_sec: 100n, group_name: 'nad' });
  const limits = await domain.getBlockIoTune('vdb');
  t.hasStrict(limits, { total_bytes_sec: BigInt(10 * MIB), read_iops_sec: 100n, group_name: 'nad' });
  t.hasStrict(await domain.getBlockIoTune('vda'), { total_bytes_sec: 0n });
  await ifDaemonHas('11.2.0', domain.setThrottleGroup('nad-group', { total_iops_sec: 50 }));
  await ifDaemonHas('11.2.0', domain.delThrottleGroup('nad-group'));
});

t.test('a disk grows, and it is watched how far it is filled', { skip }, async (t) => {
  const { domain } = await guest();
  await domain.blockResize('vdc', 2 * MIB, inBytes);
  t.equal((await domain.getBlockInfo('vdc')).capacity, BigInt(2 * MIB));
  await domain.blockResize('vdb', 8 * 1024);
  t.equal((await domain.getBlockInfo('vdb')).capacity, BigInt(8 * MIB));
  await domain.setBlockThreshold('vdb', 6n * BigInt(MIB));
  const { VIR_DOMAIN_STATS_BLOCK: block } = constants.virDomainStatsTypes;
  const [entry] = await domain.connection.domainListGetStats([domain], block);
  t.equal(entry?.stats['block.1.threshold'], 6n * BigInt(MIB));
});

t.test('images are merged while a domain runs', { skip }, async (t) => {
  const { domain, path } = await guest();
  await domain.blockCommit('vda', path('bottom'), path('middle'), 0);
  await until(jobIsOver(domain, 'vda'), 'the middle is in the bottom');
  t.notMatch(await domain.getXMLDesc(), path('middle'));
  await domain.blockRebase('vda', null, 0n);
  await until(jobIsOver(domain, 'vda'), 'the top stands alone');
  t.notMatch(await domain.getXMLDesc(), path('bottom'));
  t.match(await domain.getXMLDesc(), path('below'));
  await domain.blockPull('vdb', 0);
  await until(jobIsOver(domain, 'vdb'), 'the other top stands alone');
  t.notMatch(await domain.getXMLDesc(), path('below'));
});

/** Asks whether nothing is done to a disk any more. */
function jobIsOver(domain: Domain, disk: string): () => Promise<boolean> {
  return async () => (await domain.getBlockJobInfo(disk)).found === 0;
}

t.test('a disk is copied, and the domain changes over to the copy', { skip }, async (t) => {
  const { domain, path } = await guest();
  const copy = `<disk type='file'><driver type='qcow2'/><source file='${path('copy')}'/></disk>`;
  await domain.blockCopy(
    'vda',
    copy,
    { bandwidth: 100 * MIB, granularity: 65_536, 'buf-size': 2n ** 20n },
    transient,
  );
  await domain.blockJobSetSpeed('vda', 20n);
  t.hasStrict(await domain.getBlockJobInfo('vda'), {
    found: 1,
    type: constants.virDomainBlockJobType.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY,
    bandwidth: 20n,
  });
  // that all is copied is not enough: QEMU has to have said so
  const isReady = async () => /<mirror [^>]*ready='yes'/.test(await domain.getXMLDesc());
  await until(isReady, 'the copy is complete');
  await domain.blockJobAbort('vda', pivot);
  t.match(await domain.getXMLDesc(), path('copy'));
  t.hasStrict(await domain.getBlockJobInfo('vda'), { found: 0, cur: 0n, end: 0n });
});

t.test('every method of Domain for disks was called', { skip }, (t) => called.check(t));
