/**
 * The configuration of berthd: every key with its unit, its default and what it does.
 *
 * The commented configuration file in systemd/ is generated from here (`npm run docs`), so this is the one
 * place where a key is described.
 */
import { Name } from '../../model/common.ts';
import { KeyName } from '../../model/disk.ts';
import { ROLES } from '../../model/method.ts';
import { type Static, type TObject, type TProperties, Type } from '../../model/schema.ts';

function section<P extends TProperties>(description: string, properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false, default: {}, description });
}

const AbsolutePath = (description: string, path: string) =>
  Type.String({
    pattern: '^/[^\\x00-\\x1f]*$',
    maxLength: 1024,
    default: path,
    description: `${description} Absolute path.`,
  });

const Ratio = (description: string, ratio: number) =>
  Type.Number({ minimum: 0.1, maximum: 64, default: ratio, description });

/** A section that may be given any number of times, as `[[name]]`. */
function sections<P extends TProperties>(description: string, limit: number, properties: P) {
  return Type.Array(Type.Object(properties, { additionalProperties: false }), {
    default: [],
    maxItems: limit,
    description,
  });
}

/** Keys of one node: a new one each month, for five years. */
const KEYS_LIMIT = 64;
/** Pools beside the default one; each may hold as many threads as main.ts has for it. */
export const POOLS_LIMIT = 15;

/** Addresses of one scheduler beside the first. */
const SCHEDULER_URLS_LIMIT = 8;

/** Object stores of one node; each has connections and buffers of its own. */
const OBJECT_STORES_LIMIT = 16;

export const ConfigSchema = Type.Object(
  {
    node: section('The node itself.', {
      stateDir: AbsolutePath(
        'Folder of the database; a second daemon on it refuses to start.',
        '/var/lib/berth',
      ),
      runDir: AbsolutePath(
        'Folder for what a reboot may forget, such as the files of dnsmasq.',
        '/run/berth',
      ),
    }),
    socket: section('The local socket, for `berth` and for debugging.', {
      path: AbsolutePath('Unix socket. At most 100 characters.', '/run/berth/berth.sock'),
      group: Type.String({
        pattern: '^[a-z_][a-z0-9_-]{0,31}$|^$',
        default: '',
        description: 'Group that may use the socket besides root; empty for root alone.',
      }),
      readOnlyPath: AbsolutePath(
        'Unix socket that can only be asked, and changes nothing; made where readOnlyGroup is given. At most 100 characters.',
        '/run/berth/berth-ro.sock',
      ),
      readOnlyGroup: Type.String({
        pattern: '^[a-z_][a-z0-9_-]{0,31}$|^$',
        default: '',
        description: 'Group that may use the read-only socket; empty for no such socket.',
      }),
    }),
    scheduler: section('The central scheduler. Without a url the node stands alone.', {
      url: Type.Optional(
        Type.String({
          pattern: '^wss?://[^\\s]{1,1000}$',
          description: 'ws:// or wss:// address, without a path.',
        }),
      ),
      alternateUrls: Type.Array(Type.String({ pattern: '^wss?://[^\\s]{1,1000}$' }), {
        maxItems: SCHEDULER_URLS_LIMIT,
        default: [],
        description:
          'More addresses of the same scheduler, tried in turn while the first does not answer; the link goes back to the first later. The same token, certificate and authorities are used.',
      }),
      tokenFile: Type.Optional(
        Type.String({
          pattern: '^/',
          description: 'File with the bearer token, readable by root alone. Absolute path.',
        }),
      ),
      enrolTokenFile: Type.Optional(
        Type.String({
          pattern: '^/[^\\x00-\\x1f]*$',
          maxLength: 1024,
          description:
            'File with an enrolment token, readable by root alone: with it the node gets its certificate at the start, once; what it says of the scheduler holds where there is no url. Absolute path.',
        }),
      ),
      caFile: Type.Optional(
        Type.String({
          pattern: '^/[^\\x00-\\x1f]*$',
          maxLength: 1024,
          description:
            "Certificate authorities of a wss:// scheduler, PEM, in place of the system's. Not for a node that is enrolled. Absolute path.",
        }),
      ),
      certFile: Type.Optional(
        Type.String({
          pattern: '^/[^\\x00-\\x1f]*$',
          maxLength: 1024,
          description:
            'Certificate of this node by an authority of your own, PEM, with the name URI:berth:node:<id of the node>. Read at each try. Absolute path.',
        }),
      ),
      keyFile: Type.Optional(
        Type.String({
          pattern: '^/[^\\x00-\\x1f]*$',
          maxLength: 1024,
          description: 'Key of certFile, PEM, readable by root alone. Absolute path.',
        }),
      ),
      role: Type.Enum([...ROLES], {
        default: 'operate',
        description:
          'What the scheduler may do here: observe asks, operate changes instances and what they need, admin all that root may.',
      }),
      ownershipSeconds: Type.Integer({
        minimum: 30,
        maximum: 31_536_000,
        default: 300,
        description:
          'Seconds without the scheduler after which it is asked before a policy starts anything: it may run elsewhere.',
      }),
    }),
    audit: section('The audit log: who has asked for which change.', {
      keepEntries: Type.Integer({
        minimum: 1_000,
        maximum: 1_000_000,
        default: 20_000,
        description:
          'Newest entries that are kept, about half a KiB each; the chain goes on from a checkpoint. `berth audit list --json` exports them before.',
      }),
    }),
    hypervisor: section('What runs the guests.', {
      driver: Type.Enum(['libvirt', 'sim'], {
        default: 'libvirt',
        description: 'libvirt, or sim: guests in memory, whose one image is /sim/image.qcow2; for trials.',
      }),
      uri: Type.String({ maxLength: 1024, default: 'qemu:///system', description: 'URI of libvirt.' }),
    }),
    storage: section('The default pool: images, volumes, seeds and shares as files.', {
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
    }),
    keys: sections(
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
    ),
    pools: sections(
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
            'Whether other nodes have the pool in the same folder, too; each says so. An instance whose disks are all in such pools can be restarted on another node when its own is gone.',
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
          description:
            'Percent of the pool really used at which no volume is made or grown any more; 100 never.',
        }),
      },
    ),
    seeds: section('What guests are told at their first boot.', {
      vendorDataFile: Type.Optional(
        Type.String({
          pattern: '^/[^\\x00-\\x1f]*$',
          maxLength: 1024,
          description:
            'File with vendor-data, as cloud-config or another kind: what every guest does before its own user-data, unless its spec brings another. Read at the start. Absolute path.',
        }),
      ),
    }),
    objects: sections(
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
        pathStyle: Type.Boolean({
          default: true,
          description: "Bucket in the path of the URL; false for in the host's name, as AWS wants it.",
        }),
        caFile: Type.Optional(
          Type.String({
            pattern: '^/[^\\x00-\\x1f]*$',
            maxLength: 1024,
            description:
              "Certificate authorities of the server, PEM, in place of the system's. Absolute path.",
          }),
        ),
      },
    ),
    snapshots: section('Snapshots of instances.', {
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
    }),
    images: section('The cache of images.', {
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
          description:
            'OpenPGP keys whose signatures of images are trusted, as gpgv reads them. Absolute path.',
        }),
      ),
    }),
    capacity: section('How much of the host is given to instances.', {
      vcpuRatio: Ratio('Virtual CPUs for each CPU of the host.', 4),
      memoryRatio: Ratio('MiB of guests for each MiB of the host.', 1),
      diskRatio: Ratio('GiB of thin volumes for each GiB of the pool.', 1),
      reservedVcpus: Type.Integer({
        minimum: 0,
        maximum: 4096,
        default: 0,
        description: 'CPUs kept for the host.',
      }),
      reservedMemoryMib: Type.Integer({
        minimum: 0,
        maximum: 1_048_576,
        default: 1024,
        description:
          "MiB kept for the host: its kernel, libvirt, berthd, and QEMU's code, which all guests share; huge pages are kept besides.",
      }),
      reservedDiskGib: Type.Integer({
        minimum: 0,
        maximum: 1_048_576,
        default: 2,
        description: 'GiB of the pool kept free.',
      }),
      poolWarningPercent: Type.Integer({
        minimum: 1,
        maximum: 100,
        default: 85,
        description: 'Percent of the pool really used at which it is told as degraded; 100 never.',
      }),
      poolCriticalPercent: Type.Integer({
        minimum: 1,
        maximum: 100,
        default: 95,
        description:
          'Percent of the pool really used at which no volume is made or grown any more; 100 never.',
      }),
    }),
    operations: section('How operations run.', {
      parallel: Type.Integer({
        minimum: 1,
        maximum: 256,
        default: 32,
        description: 'Operations on different objects at once; one that waits for a guest counts.',
      }),
      timeoutSeconds: Type.Integer({
        minimum: 10,
        maximum: 86_400,
        default: 900,
        description: 'Seconds after which an operation is undone.',
      }),
    }),
    collector: section('What is done about leaks: what Berth made on the host and nothing owns any more.', {
      policy: Type.Enum(['report', 'remove'], {
        default: 'report',
        description:
          'report, or remove: then what the journal proves to be ours and nobody uses is removed without asking.',
      }),
      intervalMinutes: Type.Integer({
        minimum: 1,
        maximum: 1440,
        default: 60,
        description: 'Minutes between two looks at the host.',
      }),
    }),
    metering: section('What instances and volumes use, for billing.', {
      enabled: Type.Boolean({
        default: true,
        description: 'Whether usage is recorded; what is used while it is not is in no record.',
      }),
      sampleSeconds: Type.Integer({
        minimum: 5,
        maximum: 3600,
        default: 60,
        description:
          'Seconds between two readings of the counters: at most so much of what a guest used before it shut itself down is lost.',
      }),
      periodSeconds: Type.Integer({
        minimum: 60,
        maximum: 86_400,
        default: 3600,
        description: 'Seconds that a record is about; a part of a day without a rest.',
      }),
      keepDays: Type.Integer({
        minimum: 1,
        maximum: 3650,
        default: 35,
        description:
          'Days that records are kept; those that the scheduler has not acknowledged are kept longer.',
      }),
    }),
    log: section('The log, JSON lines on standard output.', {
      level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error'], {
        default: 'info',
        description: 'Least level that is written.',
      }),
    }),
  },
  { additionalProperties: false },
);

export type Config = Static<typeof ConfigSchema>;
