/**
 * The configuration of berthd: every key with its unit, its default and what it does.
 *
 * The commented configuration file in systemd/ is generated from here (`npm run docs`), so this is the one
 * place where a key is described.
 */
import { ROLES } from '../../model/method.ts';
import { type Static, Type } from '../../model/schema.ts';
import { AbsolutePath, Ratio, section } from './section.ts';
import { images, keys, objects, pools, seeds, snapshots, storage } from './storage-sections.ts';

/** Addresses of one scheduler beside the first. */
const SCHEDULER_URLS_LIMIT = 8;

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
    storage,
    keys,
    pools,
    seeds,
    objects,
    snapshots,
    images,
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
