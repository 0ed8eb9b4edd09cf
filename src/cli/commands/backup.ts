/** `berth backup …` */
import type { Backup, Consistency } from '../../model/backup.ts';
import { QUIESCE, type Quiesce } from '../../model/snapshot.ts';
import { EXIT } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { CONFIRM_OPTIONS, confirm, OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, table } from '../render/table.ts';
import { formatAge, formatBytes } from '../render/units.ts';
import { absent, BACKUP, findBackup, STORE, storeOf } from './backup-find.ts';
import { restoreLeaf } from './backup-restore.ts';
import { nameArgument, nameOf } from './nouns.ts';

/** As `backup prune` keeps them where nothing is said. */
const KEPT = { last: 7, daily: 14, weekly: 8 } as const;

const CONSISTENCY: Readonly<Record<Consistency, string>> = {
  crash: 'as after a loss of power',
  'file-system': 'file systems flushed and frozen',
};

const COLUMNS: Column<Backup>[] = [
  { title: 'INSTANCE', value: ({ spec }) => spec.name },
  { title: 'AGE', value: ({ createdAt }, { nowMs }) => formatAge(createdAt, nowMs), align: 'right' },
  { title: 'DISKS', value: ({ volumes }) => String(volumes.length), align: 'right' },
  { title: 'KIND', value: ({ parentId }) => (parentId === null ? 'full' : 'incremental') },
  { title: 'DATA', value: (backup) => formatBytes(dataBytesOf(backup)), align: 'right' },
  { title: 'STORE', value: ({ store }) => store },
  { title: 'ID', value: ({ id }) => id },
];

const listLeaf: Leaf = {
  name: 'list',
  summary: 'List the backups in an object store',
  options: [
    STORE,
    { flag: 'instance', value: 'instance', completes: 'instance', summary: 'only those of one instance' },
  ],
  details: 'Backups of other nodes are listed, too: their instances are given by id.',
  doing: () => 'list the backups',
  async run(session, given) {
    const instance = given.text('instance');
    const params = { ...storeOf(given), ...(instance !== undefined && { instance }) };
    const result = await session.client.call('backup.list', params);
    await session.answerResult('backup.list', result, ({ backups }, look) => table(COLUMNS, backups, look));
    return EXIT.done;
  },
};

const showLeaf: Leaf = {
  name: 'show',
  summary: 'Show one backup, with its volumes',
  args: [BACKUP],
  options: [STORE],
  doing: (given) => `show backup ${given.argument('backup')}`,
  async run(session, given) {
    const backup = await findBackup(session, given);
    await session.answerResult('backup.list', { backups: [backup] }, (_result, look) =>
      fields(
        [
          ['ID', backup.id],
          ['Instance', `${backup.spec.name} (${backup.instanceId})`],
          ['Made', `${backup.createdAt} (${formatAge(backup.createdAt, look.nowMs)} ago)`],
          ['Store', backup.store],
          ['Kind', kindOf(backup)],
          ['Consistent', CONSISTENCY[backup.consistent]],
          ['Data', formatBytes(dataBytesOf(backup))],
          ...backup.volumes.map(
            ({ id, virtualSizeBytes }, place) =>
              [`Disk ${place}`, `${id}, ${formatBytes(virtualSizeBytes)}`] as [string, string],
          ),
          ...besidesDisks(backup),
        ],
        look,
      ),
    );
    return EXIT.done;
  },
};

const createLeaf: Leaf = {
  name: 'create',
  summary: 'Back an instance up into an object store, while it goes on',
  args: [nameArgument('instance')],
  options: [
    STORE,
    { flag: 'full', summary: 'read all of the disks, not only what has changed' },
    {
      flag: 'quiesce',
      value: 'when',
      choices: QUIESCE,
      summary: 'freeze its file systems by the agent in it (default: auto, where that answers)',
    },
    {
      flag: 'bandwidth',
      value: 'mib',
      integer: true,
      summary: 'MiB a second that are read and sent at most (default: no limit)',
    },
    ...OPERATION_OPTIONS,
  ],
  details:
    'All of its disks are of one moment: as the guest has flushed them, where it is quiesced, else as after a loss of power. Where the changes since the last backup are known, only they are read; `berth backup show` says why one is a full one.',
  doing: (given) => `back up instance ${nameOf(given)}`,
  run(session, given) {
    const bandwidthMibPerSecond = given.integer('bandwidth');
    const params = {
      id: nameOf(given),
      ...storeOf(given),
      ...(given.on('full') && { full: true }),
      quiesce: (given.text('quiesce') ?? 'auto') as Quiesce,
      ...(bandwidthMibPerSecond !== undefined && { bandwidthMibPerSecond }),
    };
    const done = `Backed up instance ${nameOf(given)}`;
    return operate(session, given, { method: 'backup.create', params, done });
  },
};

const verifyLeaf: Leaf = {
  name: 'verify',
  summary: 'Read all of a backup, and compare it with its digests',
  args: [BACKUP],
  options: [
    STORE,
    { flag: 'restore', summary: 'make scratch volumes of it, too, and compare what is read back of them' },
    ...OPERATION_OPTIONS,
  ],
  details:
    'Reading shows that the store has all of it, bit by bit. Restoring shows that this node can make disks of it; it takes room of the pool meanwhile.',
  doing: (given) => `verify backup ${given.argument('backup')}`,
  async run(session, given) {
    const { id, instanceId, store } = await findBackup(session, given);
    const params = { id, instanceId, store, ...(given.on('restore') && { restore: true }) };
    return operate(session, given, { method: 'backup.verify', params, done: `Backup ${id} is whole` });
  },
};

const deleteLeaf: Leaf = {
  name: 'delete',
  summary: 'Delete a backup',
  args: [BACKUP],
  options: [STORE, ...CONFIRM_OPTIONS, ...OPERATION_OPTIONS],
  doing: (given) => `delete backup ${given.argument('backup')}`,
  async run(session, given) {
    const { id, instanceId, store, spec } = await findBackup(session, given);
    await confirm(session, given, `Delete backup ${id} of instance ${spec.name}?`);
    const params = { id, instanceId, store };
    return operate(session, given, { method: 'backup.delete', params, done: `Deleted backup ${id}` });
  },
};

const pruneLeaf: Leaf = {
  name: 'prune',
  summary: 'Delete the backups of an instance but the newest ones',
  args: [nameArgument('instance')],
  options: [
    STORE,
    { flag: 'last', value: 'count', integer: true, summary: `newest ones to keep (default: ${KEPT.last})` },
    { flag: 'daily', value: 'days', integer: true, summary: `days to keep one of (default: ${KEPT.daily})` },
    {
      flag: 'weekly',
      value: 'weeks',
      integer: true,
      summary: `weeks to keep one of (default: ${KEPT.weekly})`,
    },
    ...CONFIRM_OPTIONS,
    ...OPERATION_OPTIONS,
  ],
  doing: (given) => `prune the backups of instance ${nameOf(given)}`,
  async run(session, given) {
    const instance = nameOf(given);
    const { backups } = await session.client.call('backup.list', { ...storeOf(given), instance });
    const [first] = backups;
    if (first === undefined) throw absent(`There is no backup of instance ${instance}`);
    await confirm(session, given, `Delete all but the newest of ${backups.length} backups of ${instance}?`);
    const { instanceId, store } = first;
    const kept = {
      last: given.integer('last') ?? KEPT.last,
      daily: given.integer('daily') ?? KEPT.daily,
      weekly: given.integer('weekly') ?? KEPT.weekly,
    };
    const done = `Pruned the backups of instance ${instance}`;
    return operate(session, given, { method: 'backup.prune', params: { instanceId, store, ...kept }, done });
  },
};

function kindOf({ parentId, full }: Backup): string {
  if (parentId !== null) return `incremental, since ${parentId}`;
  return full === null ? 'full' : `full: ${full.message} (${full.code})`;
}

function besidesDisks({ spec, nvram, shares }: Backup): [string, string][] {
  const variables = nvram === null ? 'none in the backup' : formatBytes(nvram.sizeBytes);
  return [
    ...(spec.firmware === 'uefi' ? [['Firmware variables', variables] as [string, string]] : []),
    ...shares.map(
      ({ share, tag, access }) =>
        ['Share', `${share}, by ${tag}, ${access}; not in the backup`] as [string, string],
    ),
  ];
}

function dataBytesOf({ volumes }: Backup): number {
  return volumes.reduce((sum, { dataBytes }) => sum + dataBytes, 0);
}

export const commands: readonly Leaf[] = [
  listLeaf,
  showLeaf,
  createLeaf,
  verifyLeaf,
  restoreLeaf,
  deleteLeaf,
  pruneLeaf,
];
