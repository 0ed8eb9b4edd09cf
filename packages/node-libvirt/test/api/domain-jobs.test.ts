/** Domain: jobs that last, what they are told, and what can be asked of them. */
import { join } from 'node:path';
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { counted, movableXml, moving, startHosts } from '../migration/hosts.ts';
import { failureOf } from '../support/outcome.ts';
import { until } from '../support/until.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, GUEST_PROGRAMS, guestXml, once, qcow2Disk } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { virDomainJobType: jobType, virDomainJobOperation: operation } = constants;
const { virDomainMigrateFlags: migrate } = constants;
const { VIR_DOMAIN_STATS_DIRTYRATE: dirtyRate } = constants.virDomainStatsTypes;
const { VIR_DOMAIN_DIRTYRATE_MEASURED: measured } = constants.virDomainDirtyRateStatus;

const called = record(Domain, DOMAIN_SHARES, 'jobs');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

/** Shared by the tests of this file. */
const guest = once(async () => {
  const connection = await connectionTo('qemu:///system');
  const devices = await qcow2Disk(daemon().host, 'vda', ['nad-jobs']);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-jobs', devices }));
  await domain.create();
  return domain;
});

t.test('a domain has a job while it is backed up, until the job is aborted', { skip }, async (t) => {
  const domain = await guest();
  const { dir } = daemon().host;
  const isIdle = async () => (await domain.getJobInfo()).type === jobType.VIR_DOMAIN_JOB_NONE;
  t.hasStrict(await domain.getJobInfo(), {
    type: jobType.VIR_DOMAIN_JOB_NONE,
    timeElapsed: 0n,
    dataTotal: 0n,
  });
  t.strictSame(await domain.getJobStats(), { type: jobType.VIR_DOMAIN_JOB_NONE, params: {} });
  t.match(await failureOf(domain.backupGetXMLDesc()), { codeName: 'VIR_ERR_NO_DOMAIN_BACKUP' });
  await domain.backupBegin(pullBackup(dir));
  t.match(await domain.backupGetXMLDesc(), `socket='${join(dir, 'nbd')}'`);
  t.hasStrict(await domain.getJobInfo(), { type: jobType.VIR_DOMAIN_JOB_UNBOUNDED, timeRemaining: 0n });
  const { type, params } = await domain.getJobStats();
  t.equal(type, jobType.VIR_DOMAIN_JOB_UNBOUNDED);
  t.equal(params.operation, operation.VIR_DOMAIN_JOB_OPERATION_BACKUP);
  t.type(params.time_elapsed, 'bigint');
  await domain.abortJob();
  await until(isIdle, 'the backup is over');

  await domain.backupBegin(pullBackup(dir));
  await domain.abortJobFlags();
  await until(isIdle, 'the second backup is over');
  t.hasStrict(await domain.getJobStats(constants.virDomainGetJobStatsFlags.VIR_DOMAIN_JOB_STATS_COMPLETED), {
    type: jobType.VIR_DOMAIN_JOB_COMPLETED,
    params: { operation: operation.VIR_DOMAIN_JOB_OPERATION_BACKUP, success: true },
  });
});

t.test('a domain keeps the limits of a migration to come', { skip }, async (t) => {
  const domain = await guest();
  await domain.migrateSetMaxDowntime(450);
  t.equal(await domain.migrateGetMaxDowntime(), 450n);
  await domain.migrateSetMaxSpeed(100n);
  t.equal(await domain.migrateGetMaxSpeed(), 100n);
  await domain.migrateSetCompressionCache(2 ** 23);
  t.equal(await domain.migrateGetCompressionCache(), 8_388_608n);
  t.match(await failureOf(domain.migrateStartPostCopy()), { codeName: 'VIR_ERR_OPERATION_INVALID' });
});

t.test('a migration is made to run the guest before all its memory is there', { skip }, async (t) => {
  const { one, other } = await startHosts(t);
  const domain = await one.connection.domainCreateXML(movableXml(t, 'nad-postcopy'));
  await counted(domain);
  // The guest writes to its memory all the time, and what remains cannot be sent in 1 ms: by itself this never ends.
  await domain.migrateSetMaxDowntime(1);
  const flags = migrate.VIR_MIGRATE_LIVE | migrate.VIR_MIGRATE_POSTCOPY;
  const slowly = { migrate_uri: 'tcp://127.0.0.1', bandwidth: 1 };
  const migration = domain.migrate3(other.connection, slowly, flags);
  await moving(domain);
  await domain.migrateStartPostCopy();
  t.ok(await counted(await migration), 'the guest counts on at its destination');
  const { VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY: detail } = constants.virDomainEventSuspendedDetailType;
  await until(() => one.heard.includes(`nad-postcopy SUSPENDED ${detail}`), 'the source tells how it went');
});

t.test('a domain is watched while it writes to its memory', { skip }, async (t) => {
  const domain = await guest();
  await domain.startDirtyRateCalc(1);
  const stats = async () => (await domain.connection.domainListGetStats([domain], dirtyRate))[0]?.stats;
  await until(async () => (await stats())?.['dirtyrate.calc_status'] === measured, 'the rate is known');
  t.match(await stats(), { 'dirtyrate.calc_period': 1, 'dirtyrate.megabytes_per_second': BigInt });
});

/** A backup that waits for somebody to fetch it. */
function pullBackup(dir: string): string {
  return `<domainbackup mode='pull'><server transport='unix' socket='${join(dir, 'nbd')}'/>
    <disks><disk name='vda' backup='yes' type='file'><scratch file='${join(dir, 'scratch')}'/></disk></disks>
  </domainbackup>`;
}

t.test('every method of Domain for jobs was called', { skip }, (t) => called.check(t));
