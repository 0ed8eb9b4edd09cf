/** The sections of the configuration that are about disks, images, and what is kept of them elsewhere. */
import { Name } from '../../model/common.ts';
import { KeyName } from '../../model/disk.ts';
import { Type } from '../../model/schema.ts';
import { AbsolutePath, Ratio, section, sections } from './section.ts';

/** Keys of one node: a new one each month, for five years. */
const KEYS_LIMIT = 64;

/** Pools beside the default one; each may hold as many threads as main.ts has for it. */
const POOLS_LIMIT = 15;

/** Object stores of one node; each has connections and buffers of its own. */
const OBJECT_STORES_LIMIT = 16;

export const storage = section('The default pool: images, volumes, seeds and shares as files.', {
  path: AbsolutePath(
    'Folder of the pool, on a file system of its own where possible.',
    '/var/lib/berth/pool',
  ),
  wipeMibps: Type.Integer({
    minimum: 1,
    maximum: 65_536,
    default: 64,
    description: 'MiB a second at which deleted volumes are overwritten that are to be wiped.',
  }),
});

export const keys = sections(
  'A key that volumes can be encrypted with. Keep a copy of its file elsewhere: without it they are lost. One such section each.',
  KEYS_LIMIT,
  {
    name: KeyName,
    file: Type.String({
      pattern: '^/[^\\x00-\\x1f]*$',
      maxLength: 1024,
      description:
        'File with 64 hexadecimal digits, readable by root alone; one of LoadCredential= is such a file. Absolute path.',
    }),
  },
);

export const pools = sections(
  'One more pool, for volumes: on faster disks, say, or on NFS. One such section each.',
  POOLS_LIMIT,
  {
    name: Name,
    path: Type.String({
      pattern: '^/[^\\x00-\\x1f]*[^/\\x00-\\x1f]$',
      maxLength: 1024,
      description:
        'Folder of the pool, which has to exist; it is marked, and never written to without its mark. Absolute path.',
    }),
    nfs: Type.Optional(
      Type.String({
        pattern: '^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\\[[0-9a-fA-F:.]{2,45}\\]):/[^\\s,]{0,1000}$',
        description: 'server:/export that is mounted on that folder; without it nothing is mounted.',
      }),
    ),
    nfsOptions: Type.String({
      pattern: '^[A-Za-z0-9_.:=-]+(,[A-Za-z0-9_.:=-]+)*$',
      maxLength: 512,
      default: 'hard,nosuid,nodev,noexec',
      description:
        'Options of that mount. With hard, guests wait for a server that is away; with soft, they lose writes.',
    }),
    shared: Type.Boolean({
      default: false,
      description:
        'Whether other nodes have the pool in the same folder, too; each says so. An instance whose disks are all in such pools can be restarted on another node when its own is gone. On NFS the nodes need different hostnames: by these its server tells them apart.',
    }),
    diskRatio: Ratio('GiB of thin volumes for each GiB of the pool.', 1),
    reservedDiskGib: Type.Integer({
      minimum: 0,
      maximum: 1_048_576,
      default: 2,
      description: 'GiB of the pool kept free.',
    }),
    warningPercent: Type.Integer({
      minimum: 1,
      maximum: 100,
      default: 85,
      description: 'Percent of the pool really used at which it is told as degraded; 100 never.',
    }),
    criticalPercent: Type.Integer({
      minimum: 1,
      maximum: 100,
      default: 95,
      description: 'Percent of the pool really used at which no volume is made or grown any more; 100 never.',
    }),
  },
);

export const seeds = section('What guests are told at their first boot.', {
  vendorDataFile: Type.Optional(
    Type.String({
      pattern: '^/[^\\x00-\\x1f]*$',
      maxLength: 1024,
      description:
        'File with vendor-data, as cloud-config or another kind: what every guest does before its own user-data, unless its spec brings another. Read at the start. Absolute path.',
    }),
  ),
});

export const objects = sections(
  'An object store for backups and images: a bucket by S3, or a folder, such as a mount of NFS. One such section each.',
  OBJECT_STORES_LIMIT,
  {
    name: Name,
    path: Type.Optional(
      Type.String({
        pattern: '^/[^\\x00-\\x1f]*$',
        maxLength: 1024,
        description:
          'The folder, which has to exist, in place of endpoint, bucket and credentialsFile. Nothing is written to one without a file .berth-store, which `berth doctor` makes in an empty mount. Absolute path.',
      }),
    ),
    endpoint: Type.Optional(
      Type.String({
        pattern: '^https?://([A-Za-z0-9.-]+|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?$',
        maxLength: 300,
        description:
          'http:// or https:// address of the server, without a path. Needed where there is no path.',
      }),
    ),
    region: Type.String({
      pattern: '^[a-z0-9-]{1,64}$',
      default: 'us-east-1',
      description: 'Region that requests are signed for; servers of your own often have us-east-1.',
    }),
    bucket: Type.Optional(
      Type.String({
        pattern: '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$',
        description: 'Bucket, which has to exist. Needed where there is no path.',
      }),
    ),
    prefix: Type.String({
      pattern: '^([A-Za-z0-9][A-Za-z0-9._-]*/)*$',
      maxLength: 256,
      default: '',
      description: 'What all keys in the bucket or folder begin with; empty, or ending with a slash.',
    }),
    credentialsFile: Type.Optional(
      Type.String({
        pattern: '^/[^\\x00-\\x1f]*$',
        maxLength: 1024,
        description:
          'File with lines `accessKeyId = …` and `secretAccessKey = …`, readable by root alone. Needed where there is no path. Absolute path.',
      }),
    ),
    backupKeyFile: Type.Optional(
      Type.String({
        pattern: '^/[^\\x00-\\x1f]*$',
        maxLength: 1024,
        description:
          'File with 64 hexadecimal digits, readable by root alone: backups are encrypted by this key, and are lost without it. Absolute path.',
      }),
    ),
    underWayMib: Type.Integer({
      minimum: 4,
      maximum: 32,
      default: 4,
      description:
        'MiB of disks that are on their way to or from the store at once while a backup is written or read. More is quicker where the store is far away; berthd takes about three times as much of memory meanwhile.',
    }),
    pathStyle: Type.Boolean({
      default: true,
      description: "Bucket in the path of the URL; false for in the host's name, as AWS wants it.",
    }),
    caFile: Type.Optional(
      Type.String({
        pattern: '^/[^\\x00-\\x1f]*$',
        maxLength: 1024,
        description: "Certificate authorities of the server, PEM, in place of the system's. Absolute path.",
      }),
    ),
  },
);

export const snapshots = section('Snapshots of instances.', {
  mergeAutomatically: Type.Boolean({
    default: true,
    description:
      'Whether what deleted snapshots have left is merged in the background; else by `berth snapshot merge` alone.',
  }),
  mergeMibPerSecond: Type.Integer({
    minimum: 0,
    maximum: 1_000_000,
    default: 256,
    description:
      'MiB that are moved in a second at most when what deleted snapshots have left is merged in the background; 0 for no limit.',
  }),
});

export const images = section('The cache of images.', {
  budgetGib: Type.Integer({
    minimum: 0,
    maximum: 1_048_576,
    default: 0,
    description:
      'GiB that images may take before the ones that were not used for longest are evicted; 0 evicts none.',
  }),
  verifyHours: Type.Integer({
    minimum: 0,
    maximum: 8760,
    default: 168,
    description: 'Hours after which an image is read and compared with its digest again; 0 never.',
  }),
  allowAddresses: Type.Array(Type.String({ pattern: '^[0-9a-f.:]{2,39}/\\d{1,3}$' }), {
    maxItems: 64,
    default: [],
    description:
      'Ranges that images may come from though they are refused: loopback, link-local, metadata services.',
  }),
  keyring: Type.Optional(
    Type.String({
      pattern: '^/',
      description: 'OpenPGP keys whose signatures of images are trusted, as gpgv reads them. Absolute path.',
    }),
  ),
});
