import type { Backup } from '../../../src/model/backup.ts';
import { GIB } from '../../../src/model/units.ts';
import type { Stand } from '../stands/stand.ts';
import { type Scenario, scenario } from './scenario.ts';
import { SUBJECT } from './setting.ts';

/** Backups of the subject that are there when some are to go. */
const SEVERAL = 3;

/** The backup that the scenarios after the first are about; one that was made for them. */
let backup: Backup;
/** How many the subject has. */
let ofSubject = 0;

async function haveBackup({ node }: Stand): Promise<void> {
  const list = async () => (await node.call('backup.list', { instance: SUBJECT })).backups.filter(isInClear);
  if ((await list()).length === 0) await node.run('backup.create', { id: SUBJECT });
  backup = (await list())[0] as Backup;
}

/** Another case may have made one while the subject had an encrypted volume. */
function isInClear({ volumes }: Backup): boolean {
  return volumes.every(({ encryption }) => encryption === undefined);
}

/** Several backups, whose chunks are old enough to go with them. */
async function haveBackups(stand: Stand): Promise<void> {
  const { node } = stand;
  const count = async () => (await node.call('backup.list', { instance: SUBJECT })).backups.length;
  for (let there = await count(); there < SEVERAL; there++) await node.run('backup.create', { id: SUBJECT });
  ofSubject = await count();
  await haveBackup(stand);
  await node.ask({ ask: 'age objects' });
}

/** A backup whose instance is gone. */
async function haveBackupAlone(stand: Stand): Promise<void> {
  await haveBackup(stand);
  await stand.node.run('instance.delete', { id: SUBJECT });
}

/**
 * A backup of the running guest that the next one can go on from. A case may have ended with a guest that was killed,
 * or with its power as it was not before.
 */
export async function haveCheckpoint({ node }: Stand): Promise<void> {
  const { instance } = await node.call('instance.show', { id: SUBJECT });
  const wasRunning = instance.power.state === 'running';
  if (!wasRunning) await node.run('instance.start', { id: SUBJECT });
  await node.run('backup.create', { id: SUBJECT });
  if (!wasRunning) await node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
}

/** What a backup.create leaves in the store. */
export function oneMore(there: number): number {
  return there + 1;
}

function its() {
  const { id, instanceId, store } = backup;
  return { id, instanceId, store };
}

/** What another instance of the backup is like. */
function asNew() {
  const { spec, volumes, nics } = backup;
  const disks = volumes.map(({ virtualSizeBytes }) => ({ sizeGib: Math.ceil(virtualSizeBytes / GIB) }));
  const network = (nics ?? []).map((nic) => ({ network: nic.network }));
  return { volumes: volumes.map(({ id }) => id), spec: { ...spec, name: SUBJECT, disks, nics: network } };
}

export const BACKUPS: Scenario[] = [
  scenario('backup.create', {
    setting: { instance: 'running' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(stopped)',
    setting: { instance: 'stopped' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(incremental)',
    setting: { instance: 'running' },
    arrange: haveCheckpoint,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(incremental, stopped)',
    setting: { instance: 'stopped' },
    arrange: haveCheckpoint,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(never quiesced)',
    setting: { instance: 'running' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT, quiesce: 'never' as const }),
  }),
  scenario('backup.create', {
    variant: '(refused)',
    setting: { instance: 'running' },
    arrange: haveCheckpoint,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
    failing: { call: 'hypervisor.copyDisks' },
    ends: ['failed'],
  }),
  scenario('backup.create', {
    variant: '(UEFI)',
    setting: { instance: 'running', firmware: 'uefi' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(UEFI, stopped)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    variant: '(UEFI, refused)',
    setting: { instance: 'running', firmware: 'uefi' },
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
    failing: { call: 'storage.readNvram' },
    ends: ['failed'],
  }),
  scenario('backup.verify', {
    setting: { instance: 'stopped' },
    arrange: haveBackup,
    params: its,
    whenFailed: 'is asked for again',
  }),
  scenario('backup.restore', {
    setting: { instance: 'stopped' },
    arrange: haveBackup,
    params: () => ({ ...its(), volumeId: backup.volumes[1]?.id ?? '', name: 'new', sizeGib: 2 }),
  }),
  scenario('backup.verify', {
    variant: '(restored)',
    setting: { instance: 'stopped' },
    arrange: haveBackup,
    params: () => ({ ...its(), restore: true }),
    whenFailed: 'is asked for again',
  }),
  scenario('backup.recreate', {
    setting: { instance: 'stopped' },
    arrange: haveBackupAlone,
    params: () => ({ ...its(), ...asNew() }),
  }),
  scenario('backup.recreate', {
    variant: '(fails at its end)',
    setting: { instance: 'stopped' },
    arrange: haveBackupAlone,
    params: () => ({ ...its(), ...asNew() }),
    failing: { call: 'hypervisor.observeGuest' },
    ends: ['failed'],
  }),
  scenario('backup.recreate', {
    variant: '(cancelled)',
    setting: { instance: 'stopped' },
    arrange: haveBackupAlone,
    params: () => ({ ...its(), ...asNew() }),
    cancelledAt: { call: 'hypervisor.define' },
    ends: ['cancelled', 'succeeded'],
  }),
  scenario('backup.recreate', {
    variant: '(UEFI)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    arrange: haveBackupAlone,
    params: () => ({ ...its(), ...asNew() }),
  }),
  scenario('backup.recreate', {
    variant: '(UEFI, refused)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    arrange: haveBackupAlone,
    params: () => ({ ...its(), ...asNew() }),
    failing: { call: 'hypervisor.writeNvram' },
    ends: ['failed'],
  }),
  scenario('backup.delete', {
    setting: { instance: 'stopped' },
    arrange: haveBackups,
    backupsLeft: (there) => there - 1,
    params: its,
    whenFailed: 'is asked for again',
  }),
  scenario('backup.prune', {
    setting: { instance: 'stopped' },
    arrange: haveBackups,
    backupsLeft: (there) => there - ofSubject + 1,
    params: () => ({ instanceId: its().instanceId, last: 1, daily: 0, weekly: 0 }),
    whenFailed: 'is asked for again',
  }),
];
