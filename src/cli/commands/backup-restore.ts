/** `berth backup restore`: one volume, or a whole instance. */
import type { Backup } from '../../model/backup.ts';
import type { DiskSpec, InstanceSpec, NicSpec } from '../../model/instance.ts';
import { type ExitCode, usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import type { Session } from '../session.ts';
import { BACKUP, findBackup, STORE } from './backup-find.ts';
import { ENCRYPTION_OPTION, encryptionOf } from './encryption-option.ts';

const GIB = 1024 ** 3;
const OF_VOLUMES = ['disk', 'size-gib', 'encryption-key'] as const;
const OF_INSTANCES = ['network', 'keep-identity', 'fresh-firmware'] as const;

export const restoreLeaf: Leaf = {
  name: 'restore',
  summary: 'Make a new volume, or with --instance a whole instance, of one that is in a backup',
  args: [BACKUP, { name: 'name', summary: 'name of the new volume', optional: true }],
  options: [
    STORE,
    {
      flag: 'disk',
      value: 'place',
      integer: true,
      summary: 'which of its disks (default: 0, the one that boots)',
    },
    { flag: 'size-gib', value: 'gib', integer: true, summary: 'size in GiB (default: as it was)' },
    { flag: 'pool', value: 'pool', completes: 'pool', summary: 'pool of the volumes (default: default)' },
    ENCRYPTION_OPTION,
    { flag: 'instance', value: 'name', summary: 'make an instance of this name, with all of its disks' },
    {
      flag: 'network',
      value: 'old=new',
      repeatable: true,
      summary: 'network of this node for one of the backup (default: the one of the same name)',
    },
    {
      flag: 'keep-identity',
      summary: 'the same instance again: its UUID, and its NICs with their MAC and IP addresses',
    },
    {
      flag: 'fresh-firmware',
      summary: 'begin with the firmware variables of a new machine (default: those of the backup)',
    },
    ...OPERATION_OPTIONS,
  ],
  details: [
    'It need not be the node that was backed up, and needs none of its images. Shares are in no backup: `berth backup show` lists those that there were. The firmware variables of a UEFI guest come back with its instance.',
    'An instance gets a new UUID, MAC and IP addresses: cloud-init in the guest does again what it does at a first boot, such as new SSH host keys. With --keep-identity it does not; the instance of before must be gone then, on all nodes.',
    'Examples:',
    '  berth backup restore 5f0c… data-again --disk 1',
    '  berth backup restore 5f0c… --instance web2 --network lan=default',
  ].join('\n'),
  doing: (given) =>
    `restore ${given.text('instance') === undefined ? 'a volume' : 'an instance'} from backup ${given.argument('backup')}`,
  run(session, given) {
    const name = given.text('name');
    const instance = given.text('instance');
    if ((name === undefined) === (instance === undefined))
      throw usageError('Give the name of a volume, or --instance and the name of an instance');
    return instance === undefined
      ? restoreOneVolume(session, given, name as string)
      : restoreInstance(session, given, instance);
  },
};

async function restoreOneVolume(session: Session, given: Given, name: string): Promise<ExitCode> {
  refuse(given, OF_INSTANCES, 'is for --instance');
  const { id, instanceId, store, volumes } = await findBackup(session, given);
  const volume = volumes[given.integer('disk') ?? 0];
  if (volume === undefined)
    throw usageError(`the backup has ${volumes.length} disks`, { hint: 'They are counted from 0.' });
  const sizeGib = given.integer('size-gib') ?? gibOf(volume);
  return operate(session, given, {
    method: 'backup.restore',
    params: {
      id,
      instanceId,
      store,
      volumeId: volume.id,
      name,
      sizeGib,
      ...poolOf(given),
      ...encryptionOf(given),
    },
    done: `Restored volume ${name}`,
  });
}

async function restoreInstance(session: Session, given: Given, name: string): Promise<ExitCode> {
  refuse(given, OF_VOLUMES, 'is for a single volume');
  const networks = networksOf(given);
  const backup = await findBackup(session, given);
  const { id, instanceId, store, volumes } = backup;
  const keeps = given.on('keep-identity');
  const params = {
    ...{ id, instanceId, store, volumes: volumes.map((volume) => volume.id) },
    ...(keeps && { as: instanceId }),
    spec: specOf(backup, { name, networks, keeps, place: poolOf(given) }),
    ...(given.on('fresh-firmware') && { freshFirmware: true }),
  };
  return operate(session, given, {
    method: 'backup.recreate',
    params,
    done: `Restored instance ${name}${leftOf(backup)}`,
  });
}

/** What no restore brings back is said, so that nobody finds out later. */
function leftOf({ spec, nvram, shares }: Backup): string {
  const names = shares.length > 0 ? shares.map(({ share }) => share) : sharesOf(spec);
  const left = [
    ...names.map((name) => `share ${name}`),
    ...(spec.firmware === 'uefi' && nvram === null ? ['firmware variables'] : []),
  ];
  return left.length === 0 ? '' : `, without what is in no backup: ${left.join(', ')}`;
}

/** Of a backup of an older version: those that it was made with. */
function sharesOf({ shares = [] }: InstanceSpec): string[] {
  return shares.map(({ share }) => share);
}

interface Wanted {
  name: string;
  /** By their names of before. */
  networks: ReadonlyMap<string, string>;
  keeps: boolean;
  /** Of all its disks. */
  place: Pick<DiskSpec, 'pool'>;
}

function poolOf(given: Given): Pick<DiskSpec, 'pool'> {
  const pool = given.text('pool');
  return pool === undefined ? {} : { pool };
}

function specOf(backup: Backup, { name, networks, keeps, place }: Wanted): InstanceSpec {
  const nics: NicSpec[] = backup.nics ?? backup.spec.nics;
  const unknown = [...networks.keys()].find((network) => !nics.some((nic) => nic.network === network));
  if (unknown !== undefined)
    throw usageError(`the backup has no NIC in network ${unknown}`, {
      hint: `It has: ${[...new Set(nics.map(({ network }) => network))].join(', ') || 'none'}.`,
    });
  // What is in shares is in no backup.
  const { shares: _shares, ...spec } = backup.spec;
  return {
    ...spec,
    name,
    disks: backup.volumes.map((volume) => ({ ...diskOf(volume), ...place })),
    nics: nics.map(({ network, macAddress, ipAddress }) => ({
      network: networks.get(network) ?? network,
      ...(keeps && macAddress !== undefined && { macAddress }),
      ...(keeps && ipAddress !== undefined && { ipAddress }),
    })),
  };
}

function diskOf(volume: Backup['volumes'][number]): DiskSpec {
  const { device, qos, encryption } = volume;
  return {
    sizeGib: gibOf(volume),
    ...(device !== undefined && { device }),
    ...(qos !== undefined && { qos }),
    ...(encryption !== undefined && { encryption }),
  };
}

function gibOf({ virtualSizeBytes }: Backup['volumes'][number]): number {
  return Math.ceil(virtualSizeBytes / GIB);
}

function networksOf(given: Given): Map<string, string> {
  const networks = new Map<string, string>();
  for (const text of given.texts('network')) {
    const [, old, now] = /^([^=]+)=([^=]+)$/.exec(text) ?? [];
    if (old === undefined || now === undefined)
      throw usageError(`--network ${text} is not OLD=NEW`, {
        hint: 'Name the network of the backup, then that of this node: --network lan=default.',
      });
    if (networks.has(old)) throw usageError(`--network names ${old} twice`);
    networks.set(old, now);
  }
  return networks;
}

function refuse(given: Given, flags: readonly string[], why: string): void {
  const flag = flags.find((each) => (each === 'network' ? given.texts(each).length > 0 : given.has(each)));
  if (flag !== undefined) throw usageError(`--${flag} ${why}`);
}
