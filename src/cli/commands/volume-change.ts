/** `berth volume attach`, `detach`, `grow` and `configure`. */
import type { DiskDevice, Rate, VolumeQos } from '../../model/disk.ts';
import { usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { DISK_AIOS, DISK_BUSES, DISK_CACHES, QOS_LIMITS } from '../words.ts';
import { nameArgument, nameOf } from './nouns.ts';

/** RATE[:BURST[:SECONDS]], each a whole number; K, M and G stand for powers of 1024. */
const RATE = /^(\d{1,15})([KMG]?)(?::(\d{1,15})([KMG]?))?(?::(\d{1,4}))?$/;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

export const attachLeaf: Leaf = {
  name: 'attach',
  summary: 'Give a volume to an instance as a disk',
  args: [
    nameArgument('volume'),
    { name: 'instance', summary: 'name or id of the instance', completes: 'instance' },
  ],
  options: [
    { flag: 'bus', value: 'bus', choices: DISK_BUSES, summary: 'how the guest sees it (default: virtio)' },
    {
      flag: 'cache',
      value: 'mode',
      choices: DISK_CACHES,
      summary: 'how it is cached on the host (default: none, where its file system can)',
    },
    {
      flag: 'aio',
      value: 'mode',
      choices: DISK_AIOS,
      summary: 'how it is read and written (default: threads)',
    },
    { flag: 'iothread', summary: 'serve it in a thread of its own' },
    ...OPERATION_OPTIONS,
  ],
  details: 'A guest that runs sees it at once, by a serial that begins as the id of the volume.',
  doing: (given) => `attach volume ${nameOf(given)} to ${given.argument('instance')}`,
  async run(session, given) {
    const instance = given.argument('instance');
    return operate(session, given, {
      method: 'volume.attach',
      params: { id: nameOf(given), instance, ...deviceOf(given) },
      done: `Attached volume ${nameOf(given)} to ${instance}`,
    });
  },
};

export const detachLeaf: Leaf = {
  name: 'detach',
  summary: 'Take a volume from its instance',
  args: [nameArgument('volume')],
  options: [
    {
      flag: 'timeout-seconds',
      value: 'seconds',
      integer: true,
      summary: 'seconds given to the guest (default: 30)',
    },
    ...OPERATION_OPTIONS,
  ],
  details: 'Unmount it in the guest first. A guest that does not let it go in time keeps it.',
  doing: (given) => `detach volume ${nameOf(given)}`,
  async run(session, given) {
    const timeoutSeconds = given.integer('timeout-seconds') ?? 30;
    return operate(session, given, {
      method: 'volume.detach',
      params: { id: nameOf(given), timeoutSeconds },
      done: `Detached volume ${nameOf(given)}`,
    });
  },
};

export const growLeaf: Leaf = {
  name: 'grow',
  summary: 'Make a volume larger',
  args: [nameArgument('volume')],
  options: [
    { flag: 'size-gib', value: 'gib', integer: true, summary: 'size in GiB that it has then (required)' },
    ...OPERATION_OPTIONS,
  ],
  details:
    'A guest that runs sees the new size at once; its partitions and file systems are its own to grow.',
  doing: (given) => `grow volume ${nameOf(given)}`,
  async run(session, given) {
    const sizeGib = given.integer('size-gib');
    if (sizeGib === undefined)
      throw usageError('--size-gib is missing', { hint: 'Give the new size in GiB, as in --size-gib 20.' });
    return operate(session, given, {
      method: 'volume.grow',
      params: { id: nameOf(given), sizeGib },
      done: `Volume ${nameOf(given)} has ${sizeGib} GiB`,
    });
  },
};

export const flattenLeaf: Leaf = {
  name: 'flatten',
  summary: 'Bring all data of a volume into its own file, so that it needs its image no more',
  args: [nameArgument('volume')],
  options: [
    {
      flag: 'speed-mibps',
      value: 'mib',
      integer: true,
      summary: 'MiB a second that are copied at most (default: as fast as it can)',
    },
    ...OPERATION_OPTIONS,
  ],
  details:
    'A guest that runs goes on. Other operations on its instance wait meanwhile; this one can be cancelled, and asked for again.',
  doing: (given) => `flatten volume ${nameOf(given)}`,
  async run(session, given) {
    const speedMibps = given.integer('speed-mibps');
    return operate(session, given, {
      method: 'volume.flatten',
      params: { id: nameOf(given), ...(speedMibps === undefined ? {} : { speedMibps }) },
      done: `Volume ${nameOf(given)} stands on no image`,
    });
  },
};

export const configureLeaf: Leaf = {
  name: 'configure',
  summary: 'Rename, protect or limit a volume',
  args: [nameArgument('volume')],
  options: [
    { flag: 'rename', value: 'name', summary: 'name to give it' },
    { flag: 'protect', summary: 'keep it from being deleted, also with its instance' },
    { flag: 'unprotect', summary: 'let it be deleted again' },
    {
      flag: 'limit',
      value: 'what=rate',
      repeatable: true,
      summary: `limit on ${QOS_LIMITS.join(', ')}; may be repeated, and replaces all limits`,
    },
    { flag: 'no-limits', summary: 'take all limits away' },
    ...OPERATION_OPTIONS,
  ],
  details: [
    'A rate is for a second, as RATE[:BURST[:SECONDS]]: what it may reach for so many seconds. K, M and G are powers',
    'of 1024. A guest that runs gets the new limits at once.',
    'Examples:',
    '  berth volume configure data --limit iops=500:2000:10 --limit read-bytes=100M',
    '  berth volume configure data --protect',
  ].join('\n'),
  doing: (given) => `configure volume ${nameOf(given)}`,
  async run(session, given) {
    const change = changeOf(given);
    if (Object.keys(change).length === 0)
      throw usageError('nothing to change is given', { hint: 'See `berth volume configure --help`.' });
    return operate(session, given, {
      method: 'volume.configure',
      params: { id: nameOf(given), ...change },
      done: `Configured volume ${change.name ?? nameOf(given)}`,
    });
  },
};

function deviceOf(given: Given): { device?: DiskDevice } {
  const bus = DISK_BUSES.find((word) => word === given.text('bus'));
  const cache = DISK_CACHES.find((word) => word === given.text('cache'));
  const aio = DISK_AIOS.find((word) => word === given.text('aio'));
  const device = {
    ...(bus && { bus }),
    ...(cache && { cache }),
    ...(aio && { aio }),
    ...(given.has('iothread') && { iothread: true }),
  };
  return Object.keys(device).length === 0 ? {} : { device };
}

function changeOf(given: Given): { name?: string; protected?: boolean; qos?: VolumeQos | null } {
  for (const [one, other] of [
    ['protect', 'unprotect'],
    ['limit', 'no-limits'],
  ] as const)
    if (given.has(one) && given.has(other)) throw usageError(`--${one} and --${other} exclude each other`);
  const name = given.text('rename');
  const isProtected = given.has('protect') ? true : given.has('unprotect') ? false : undefined;
  const qos = given.has('no-limits') ? null : qosOf(given.texts('limit'));
  return {
    ...(name !== undefined && { name }),
    ...(isProtected !== undefined && { protected: isProtected }),
    ...(qos !== undefined && { qos }),
  };
}

function qosOf(limits: readonly string[]): VolumeQos | undefined {
  if (limits.length === 0) return undefined;
  return Object.fromEntries(limits.map(limitOf));
}

function limitOf(text: string): [keyof VolumeQos, Rate] {
  const [word = '', rate = ''] = text.split('=', 2);
  const match = RATE.exec(rate);
  const name = QOS_LIMITS.find((each) => each === word);
  if (match === null || name === undefined)
    throw usageError(`--limit ${text} is no limit`, {
      hint: `Give WHAT=RATE[:BURST[:SECONDS]]; WHAT is one of ${QOS_LIMITS.join(', ')}.`,
    });
  const [, base = '', baseUnit = '', burst, burstUnit = '', seconds] = match;
  return [
    camel(name),
    {
      perSecond: Number(base) * (UNITS[baseUnit] as number),
      ...(burst !== undefined && { burst: Number(burst) * (UNITS[burstUnit] as number) }),
      ...(seconds !== undefined && { burstSeconds: Number(seconds) }),
    },
  ];
}

/** read-bytes → readBytes */
function camel(word: (typeof QOS_LIMITS)[number]): keyof VolumeQos {
  return word.replace(/-([a-z])/, (_, letter: string) => letter.toUpperCase()) as keyof VolumeQos;
}
