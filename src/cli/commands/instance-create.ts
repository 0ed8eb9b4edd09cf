/** `berth instance create`, from a spec file or from options. */
import type { DiskSpec, InstanceSpec } from '../../model/instance.ts';
import type { ShareAccess } from '../../model/share.ts';
import { usageError } from '../failure.ts';
import type { Given, Leaf, OptionSpec } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { readJsonFile, readTextFile, readUserData } from '../read-file.ts';
import type { Session } from '../session.ts';
import { checkSpec } from '../spec.ts';
import { FIRMWARES, SEED_FORMATS, WATCHDOGS } from '../words.ts';
import { ENCRYPTION_OPTION, encryptionOf } from './encryption-option.ts';
import { POLICY_OPTIONS, policiesOf } from './policy-options.ts';

/** What a small server needs; the options name them as their defaults. */
const VCPUS_DEFAULT = 1;
const MEMORY_MIB_DEFAULT = 512;
const ACCESSES = { ro: 'read-only', rw: 'read-write' } as const;

/** Options that a spec file says instead. Only the name may be given beside a file, to make several from one. */
const SPEC_OPTIONS: readonly OptionSpec[] = [
  { flag: 'vcpus', value: 'count', integer: true, summary: `virtual CPUs (default: ${VCPUS_DEFAULT})` },
  {
    flag: 'memory-mib',
    value: 'mib',
    integer: true,
    summary: `memory in MiB (default: ${MEMORY_MIB_DEFAULT})`,
  },
  { flag: 'image', value: 'image', completes: 'image', summary: 'image that the first disk stands on' },
  {
    flag: 'size-gib',
    value: 'gib',
    integer: true,
    summary: "size of the first disk in GiB (default: the image's)",
  },
  ENCRYPTION_OPTION,
  { flag: 'pool', value: 'pool', completes: 'pool', summary: 'pool of the first disk (default: default)' },
  {
    flag: 'network',
    value: 'network',
    completes: 'network',
    repeatable: true,
    summary: 'network of a NIC; may be repeated',
  },
  {
    flag: 'share',
    value: 'share',
    completes: 'share',
    repeatable: true,
    summary: 'share that it has from its first boot on, as NAME[:TAG[:ro]]; may be repeated',
  },
  {
    flag: 'ssh-key',
    value: 'path',
    completes: 'file',
    repeatable: true,
    summary: 'file of public keys that may log in; may be repeated',
  },
  {
    flag: 'user-data',
    value: 'path',
    completes: 'file',
    summary: 'what the guest does first: cloud-config, a script, or another kind; may be gzip',
  },
  {
    flag: 'vendor-data',
    value: 'path',
    completes: 'file',
    summary: "the same from whoever runs the cloud, instead of the node's own",
  },
  {
    flag: 'seed',
    value: 'format',
    choices: SEED_FORMATS,
    summary: 'how the guest finds all that: nocloud, or configdrive for cloudbase-init (default: nocloud)',
  },
  { flag: 'firmware', value: 'firmware', choices: FIRMWARES, summary: 'bios or uefi (default: bios)' },
  {
    flag: 'watchdog',
    value: 'action',
    choices: WATCHDOGS,
    summary: 'what its watchdog device does when the guest stops feeding it (default: none, no device)',
  },
  ...POLICY_OPTIONS,
];

export const createLeaf: Leaf = {
  name: 'create',
  summary: 'Make an instance and start it',
  options: [
    {
      flag: 'file',
      short: 'f',
      value: 'path',
      completes: 'file',
      summary: 'spec as JSON; - is standard input',
    },
    { flag: 'name', value: 'name', summary: "name to give it; with --file, instead of the file's" },
    { flag: 'reservation', value: 'uuid', summary: 'take the room of this reservation, which is gone then' },
    ...SPEC_OPTIONS,
    ...OPERATION_OPTIONS,
  ],
  details: [
    'Examples:',
    '  berth instance create -f examples/instance.json',
    '  berth instance create --name web1 --image debian-12 --network default --ssh-key ~/.ssh/id_ed25519.pub',
  ].join('\n'),
  doing: (given) => `create instance ${given.text('name') ?? `from ${given.text('file') ?? 'options'}`}`,
  async run(session, given) {
    const spec = await specOf(session, given);
    await checkSpec('instance.create', spec, given.text('file') ?? 'the options');
    const reservation = given.text('reservation');
    const params = { spec: spec as InstanceSpec, ...(reservation !== undefined && { reservation }) };
    const done = `Created instance ${params.spec.name}`;
    return operate(session, given, { method: 'instance.create', params, done });
  },
};

async function specOf(session: Session, given: Given): Promise<unknown> {
  const file = given.text('file');
  const name = given.text('name');
  if (file === undefined) return specFromOptions(session, given, name);
  const both = SPEC_OPTIONS.find(({ flag }) => given.has(flag));
  if (both !== undefined) {
    throw usageError(`--${both.flag} and --file exclude each other`, { hint: 'Say it in the file.' });
  }
  const spec = await readJsonFile(file, 'instance spec', session.io);
  return name !== undefined && typeof spec === 'object' && spec !== null ? { ...spec, name } : spec;
}

async function specFromOptions(session: Session, given: Given, name: string | undefined): Promise<unknown> {
  const image = given.text('image');
  if (name === undefined || image === undefined) {
    throw usageError(`${name === undefined ? '--name' : '--image'} is missing`, {
      hint: 'Give --file, or at least --name and --image; `berth image list` shows the images.',
    });
  }
  const userData = given.text('user-data');
  const vendorData = given.text('vendor-data');
  const seed = given.text('seed');
  const watchdog = given.text('watchdog');
  const policies = policiesOf(given);
  const shares = given.texts('share').map(shareOf);
  return {
    name,
    vcpus: given.integer('vcpus') ?? VCPUS_DEFAULT,
    memoryMib: given.integer('memory-mib') ?? MEMORY_MIB_DEFAULT,
    firmware: given.text('firmware') ?? 'bios',
    disks: [diskOf(given, image)],
    nics: given.texts('network').map((network) => ({ network })),
    ...(shares.length > 0 && { shares }),
    sshAuthorizedKeys: await publicKeys(session, given.texts('ssh-key')),
    ...(watchdog === undefined ? {} : { watchdog }),
    ...(policies === null ? {} : { policies }),
    ...(seed === undefined ? {} : { seed }),
    ...(userData === undefined ? {} : await readUserData(userData, session.io)),
    ...(vendorData === undefined
      ? {}
      : { vendorData: await readTextFile(vendorData, 'vendor data', session.io) }),
  };
}

function diskOf(given: Given, image: string): DiskSpec {
  const sizeGib = given.integer('size-gib');
  const pool = given.text('pool');
  return {
    image,
    ...(sizeGib !== undefined && { sizeGib }),
    ...(pool !== undefined && { pool }),
    ...encryptionOf(given),
  };
}

/** As mounts are written elsewhere: what, under which tag, and whether it can be written to. */
function shareOf(text: string): { share: string; tag?: string; access?: ShareAccess } {
  const [share = '', tag = '', mode, ...rest] = text.split(':');
  if (share === '' || rest.length > 0 || (mode !== undefined && !Object.hasOwn(ACCESSES, mode)))
    throw usageError(`--share ${text} is not NAME, NAME:TAG or NAME:TAG:ro`, {
      hint: 'Without a tag, as in NAME::ro, the guest mounts it by its name.',
    });
  return {
    share,
    ...(tag !== '' && { tag }),
    ...(mode !== undefined && { access: ACCESSES[mode as keyof typeof ACCESSES] }),
  };
}

async function publicKeys({ io }: Session, paths: readonly string[]): Promise<string[]> {
  const keys: string[] = [];
  for (const path of paths) {
    const text = await readTextFile(path, 'public keys', io);
    if (/PRIVATE KEY/.test(text)) {
      throw usageError(`${path} holds a private key, which must not leave this account`, {
        hint: `Give the public one: ${path}.pub.`,
      });
    }
    keys.push(...text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#')));
  }
  return keys;
}
