/** Encrypted volumes, through everything that is done with one. */
import type { Backup } from '../../../src/model/backup.ts';
import type { Stand } from '../stands/stand.ts';
import { haveCheckpoint, oneMore } from './backups.ts';
import { type Scenario, scenario } from './scenario.ts';
import { ENCRYPTION, IMAGE, instanceSpec, SUBJECT } from './setting.ts';

const SECRET = 'hidden';
const again = { whenFailed: 'is asked for again' } as const;
const variant = (words = '') => ({ variant: `(encrypted${words})` });

/** The backup that the restore is of; one that was made for it. */
let backup: Backup;

async function attached({ node }: Stand): Promise<void> {
  await node.run('volume.attach', { id: SECRET, instance: SUBJECT });
}

async function haveLayers(stand: Stand): Promise<void> {
  const { node } = stand;
  await attached(stand);
  for (const name of ['first', 'second', 'third']) await node.run('snapshot.create', { id: SUBJECT, name });
  for (const snapshot of ['first', 'third']) await node.run('snapshot.delete', { id: SUBJECT, snapshot });
}

async function changesKept(stand: Stand): Promise<void> {
  await attached(stand);
  await haveCheckpoint(stand);
}

async function haveBackup(stand: Stand): Promise<void> {
  await attached(stand);
  await stand.node.run('backup.create', { id: SUBJECT });
  const { backups } = await stand.node.call('backup.list', { instance: SUBJECT });
  backup = backups.at(-1) as Backup;
}

export const ENCRYPTED: Scenario[] = [
  scenario('volume.create', {
    ...variant(),
    setting: {},
    params: () => ({ name: 'new', sizeGib: 1, image: IMAGE, encryption: ENCRYPTION }),
  }),
  scenario('volume.create', {
    ...variant(', a copy'),
    setting: { encrypted: [SECRET] },
    params: () => ({ name: 'new', sizeGib: 1, volume: SECRET }),
  }),
  scenario('volume.delete', {
    ...variant(),
    setting: { encrypted: [SECRET] },
    params: () => ({ id: SECRET }),
    ...again,
  }),
  scenario('volume.delete', {
    ...variant(', wiped'),
    setting: { encrypted: [SECRET] },
    params: () => ({ id: SECRET, wipe: true }),
    ...again,
  }),
  scenario('volume.attach', {
    ...variant(),
    setting: { instance: 'running', encrypted: [SECRET] },
    params: () => ({ id: SECRET, instance: SUBJECT }),
  }),
  scenario('volume.attach', {
    ...variant(', refused'),
    setting: { instance: 'running', encrypted: [SECRET] },
    params: () => ({ id: SECRET, instance: SUBJECT }),
    failing: { call: 'hypervisor.giveKeys' },
    ends: ['failed'],
  }),
  scenario('volume.grow', {
    ...variant(),
    setting: { encrypted: [SECRET] },
    params: () => ({ id: SECRET, sizeGib: 2 }),
  }),
  scenario('volume.flatten', {
    ...variant(),
    setting: {},
    arrange: ({ node }) =>
      node.run('volume.create', { name: 'new', sizeGib: 1, image: IMAGE, encryption: ENCRYPTION }),
    params: () => ({ id: 'new' }),
    ...again,
  }),
  scenario('instance.create', {
    ...variant(),
    setting: {},
    params: () => ({ spec: instanceSpec(SUBJECT, { disks: [{ image: IMAGE, encryption: ENCRYPTION }] }) }),
  }),
  scenario('instance.start', {
    ...variant(),
    setting: { instance: 'stopped', encrypted: [SECRET] },
    arrange: attached,
    params: () => ({ id: SUBJECT }),
    ...again,
  }),
  scenario('snapshot.create', {
    ...variant(),
    setting: { instance: 'running', encrypted: [SECRET] },
    arrange: attached,
    params: () => ({ id: SUBJECT, name: 'new' }),
  }),
  scenario('snapshot.merge', {
    ...variant(),
    setting: { instance: 'stopped', encrypted: [SECRET] },
    arrange: haveLayers,
    params: () => ({ id: SUBJECT }),
    ...again,
  }),
  scenario('backup.create', {
    ...variant(),
    setting: { instance: 'running', encrypted: [SECRET] },
    arrange: attached,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    ...variant(', stopped'),
    setting: { instance: 'stopped', encrypted: [SECRET] },
    arrange: attached,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    ...variant(', incremental'),
    setting: { instance: 'running', encrypted: [SECRET] },
    arrange: changesKept,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.create', {
    ...variant(', incremental, stopped'),
    setting: { instance: 'stopped', encrypted: [SECRET] },
    arrange: changesKept,
    backupsLeft: oneMore,
    params: () => ({ id: SUBJECT }),
  }),
  scenario('backup.restore', {
    ...variant(),
    setting: { instance: 'stopped', encrypted: [SECRET] },
    arrange: haveBackup,
    params: () => {
      const { id, instanceId, store, volumes } = backup;
      return { id, instanceId, store, volumeId: volumes.at(-1)?.id ?? '', name: 'new', sizeGib: 2 };
    },
  }),
];
