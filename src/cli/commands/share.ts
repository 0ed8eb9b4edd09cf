/** `berth share …` */
import type { Result } from '../../model/methods.ts';
import type { Share } from '../../model/share.ts';
import { usageError } from '../failure.ts';
import type { ArgumentSpec, Given, Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, indent, type Look, table } from '../render/table.ts';
import { formatAge, formatGib } from '../render/units.ts';
import { deleteLeaf, listLeaf, nameArgument, nameOf, showLeaf } from './nouns.ts';

/** Seconds given to a guest that is not told otherwise: the method's own default. */
const GUEST_SECONDS_DEFAULT = 30;

const COLUMNS: Column<Share>[] = [
  { title: 'NAME', value: (share) => share.name },
  { title: 'STATE', value: (share) => share.state, state: true },
  { title: 'QUOTA', value: quotaText, align: 'right' },
  { title: 'INSTANCES', value: ({ users }) => users.map(({ instance }) => instance).join(',') || '-' },
  { title: 'AGE', value: (share, { nowMs }) => formatAge(share.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (share) => share.id },
];

const USER_COLUMNS: Column<Share['users'][number]>[] = [
  { title: 'INSTANCE', value: (user) => user.instance },
  { title: 'TAG', value: (user) => user.tag },
  { title: 'ACCESS', value: (user) => user.access },
  { title: 'ID', value: (user) => user.instanceId },
];

const instanceArgument: ArgumentSpec = {
  name: 'instance',
  summary: 'name or id of the instance',
  completes: 'instance',
};

const createLeaf: Leaf = {
  name: 'create',
  summary: 'Make a share: a folder on this node that guests mount',
  args: [{ name: 'name', summary: 'name to give it' }],
  options: [
    { flag: 'quota-gib', value: 'gib', integer: true, summary: 'GiB that it may hold (default: no quota)' },
    { flag: 'protect', summary: 'keep it from being deleted' },
    ...OPERATION_OPTIONS,
  ],
  details: 'A quota needs a pool on XFS or ext4 that is mounted with project quotas (prjquota).',
  doing: (given) => `create share ${nameOf(given)}`,
  async run(session, given) {
    const quotaGib = given.integer('quota-gib');
    const params = {
      name: nameOf(given),
      ...(quotaGib !== undefined && { quotaGib }),
      ...(given.has('protect') && { protected: true }),
    };
    const done = `Created share ${params.name}`;
    return operate(session, given, { method: 'share.create', params, done });
  },
};

const attachLeaf: Leaf = {
  name: 'attach',
  summary: 'Give a share to an instance, which can then mount it',
  args: [nameArgument('share'), instanceArgument],
  options: [
    { flag: 'tag', value: 'tag', summary: 'what the guest mounts it by (default: the name of the share)' },
    { flag: 'read-only', summary: 'keep the guest from writing, whoever asks in it' },
    ...OPERATION_OPTIONS,
  ],
  details: [
    'In the guest: mount -t virtiofs TAG /mnt',
    'An instance that runs has to be stopped first, unless it was started with a share.',
  ].join('\n'),
  doing: (given) => `attach share ${nameOf(given)} to ${given.argument('instance')}`,
  async run(session, given) {
    const instance = given.argument('instance');
    const tag = given.text('tag');
    const access = given.has('read-only') ? ('read-only' as const) : ('read-write' as const);
    return operate(session, given, {
      method: 'share.attach',
      params: { id: nameOf(given), instance, access, ...(tag !== undefined && { tag }) },
      done: `Attached share ${nameOf(given)} to ${instance}`,
    });
  },
};

const detachLeaf: Leaf = {
  name: 'detach',
  summary: 'Take a share from an instance',
  args: [nameArgument('share'), instanceArgument],
  options: [
    {
      flag: 'timeout-seconds',
      value: 'seconds',
      integer: true,
      summary: `seconds given to the guest (default: ${GUEST_SECONDS_DEFAULT})`,
    },
    ...OPERATION_OPTIONS,
  ],
  details: 'Unmount it in the guest first. A guest that does not let it go in time keeps it.',
  doing: (given) => `detach share ${nameOf(given)} from ${given.argument('instance')}`,
  async run(session, given) {
    const instance = given.argument('instance');
    const timeoutSeconds = given.integer('timeout-seconds') ?? GUEST_SECONDS_DEFAULT;
    return operate(session, given, {
      method: 'share.detach',
      params: { id: nameOf(given), instance, timeoutSeconds },
      done: `Detached share ${nameOf(given)} from ${instance}`,
    });
  },
};

const configureLeaf: Leaf = {
  name: 'configure',
  summary: 'Rename or protect a share, or change its quota',
  args: [nameArgument('share')],
  options: [
    { flag: 'rename', value: 'name', summary: 'name to give it' },
    { flag: 'protect', summary: 'keep it from being deleted' },
    { flag: 'unprotect', summary: 'let it be deleted again' },
    { flag: 'quota-gib', value: 'gib', integer: true, summary: 'GiB that it may hold' },
    { flag: 'no-quota', summary: 'let it hold what the pool has room for' },
    ...OPERATION_OPTIONS,
  ],
  details: 'A quota below what is there already removes nothing, and keeps guests from writing more.',
  doing: (given) => `configure share ${nameOf(given)}`,
  async run(session, given) {
    const change = changeOf(given);
    if (Object.keys(change).length === 0)
      throw usageError('nothing to change is given', { hint: 'See `berth share configure --help`.' });
    return operate(session, given, {
      method: 'share.configure',
      params: { id: nameOf(given), ...change },
      done: `Configured share ${change.name ?? nameOf(given)}`,
    });
  },
};

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'share.list',
    plural: 'shares',
    render: ({ shares }, look) => table(COLUMNS, shares, look),
  }),
  showLeaf({ method: 'share.show', kind: 'share', render: renderShare }),
  createLeaf,
  attachLeaf,
  detachLeaf,
  configureLeaf,
  deleteLeaf({
    method: 'share.delete',
    kind: 'share',
    summary: 'Delete a share that no instance has',
    loses: 'all the files in it',
  }),
];

function renderShare({ share, path }: Result<'share.show'>, look: Look): string {
  return [
    fields(
      [
        ['Name', share.name],
        ['ID', share.id],
        ['State', share.state, 'state'],
        ['Quota', quotaText(share)],
        ['Protected', share.protected ? 'yes' : 'no'],
        ['Pool', share.pool],
        ['Path', path],
        ['Created', `${share.createdAt} (${formatAge(share.createdAt, look.nowMs)} ago)`],
      ],
      look,
    ),
    'Instances:\n',
    indent(table(USER_COLUMNS, share.users, look)),
  ].join('');
}

function quotaText({ quotaGib }: Share): string {
  return quotaGib === null ? '-' : formatGib(quotaGib);
}

function changeOf(given: Given): { name?: string; protected?: boolean; quotaGib?: number | null } {
  for (const [one, other] of [
    ['protect', 'unprotect'],
    ['quota-gib', 'no-quota'],
  ] as const)
    if (given.has(one) && given.has(other)) throw usageError(`--${one} and --${other} exclude each other`);
  const name = given.text('rename');
  const isProtected = given.has('protect') ? true : given.has('unprotect') ? false : undefined;
  const quotaGib = given.has('no-quota') ? null : given.integer('quota-gib');
  return {
    ...(name !== undefined && { name }),
    ...(isProtected !== undefined && { protected: isProtected }),
    ...(quotaGib !== undefined && { quotaGib }),
  };
}
