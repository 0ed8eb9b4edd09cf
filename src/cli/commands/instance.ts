/** `berth instance …`, except create and console. */
import type { Instance } from '../../model/instance.ts';
import type { OperationMethod } from '../../model/methods.ts';
import type { Health } from '../../model/node.ts';
import type { Given, Leaf, OptionSpec } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, indent, type Look, table } from '../render/table.ts';
import { formatAge, formatBytes, formatGib, formatMib } from '../render/units.ts';
import { REBOOT_MODES, RESTORE_SCOPES, STOP_MODES } from '../words.ts';
import { consoleLeaf } from './instance-console.ts';
import { configureLeaf } from './instance-configure.ts';
import { createLeaf } from './instance-create.ts';
import { takeoverLeaf } from './instance-takeover.ts';
import { renderDrift } from './instance-drift.ts';
import { health } from './node.ts';
import { deleteLeaf, listLeaf, nameArgument, nameOf, showLeaf } from './nouns.ts';

/** What a guest gets when the operator names no time, in seconds: the method's own default. */
const GUEST_SECONDS_DEFAULT = 60;

const COLUMNS: Column<Instance>[] = [
  { title: 'NAME', value: (instance) => instance.name },
  { title: 'STATE', value: stateOf, state: true },
  { title: 'VCPUS', value: (instance) => instance.spec.vcpus, align: 'right' },
  { title: 'MEMORY', value: (instance) => formatMib(instance.spec.memoryMib), align: 'right' },
  { title: 'ADDRESS', value: (instance) => addressesOf(instance).join(',') },
  { title: 'AGE', value: (instance, { nowMs }) => formatAge(instance.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (instance) => instance.id },
];

const NIC_COLUMNS: Column<Instance['nics'][number]>[] = [
  { title: 'NETWORK', value: (nic) => nic.network },
  { title: 'ADDRESS', value: (nic) => nic.ipAddress },
  { title: 'MAC', value: (nic) => nic.macAddress },
  { title: 'TAP', value: (nic) => nic.tapName },
  { title: 'PORT', value: (nic) => nic.portId },
];

const DISK_COLUMNS: Column<{ disk: Instance['disks'][number]; size: string }>[] = [
  { title: 'VOLUME', value: ({ disk }) => disk.volume },
  { title: 'SIZE', value: ({ size }) => size, align: 'right' },
  { title: 'DELETED WITH INSTANCE', value: ({ disk }) => (disk.deletedWithInstance ? 'yes' : 'no') },
  { title: 'ID', value: ({ disk }) => disk.volumeId },
];

const SHARE_COLUMNS: Column<Instance['shares'][number]>[] = [
  { title: 'SHARE', value: ({ share }) => share },
  { title: 'TAG', value: ({ tag }) => tag },
  { title: 'ACCESS', value: ({ access }) => access },
  { title: 'ID', value: ({ shareId }) => shareId },
];

const guestSeconds: OptionSpec = {
  flag: 'timeout-seconds',
  value: 'seconds',
  integer: true,
  summary: `time given to the guest (default: ${GUEST_SECONDS_DEFAULT})`,
};

const startLeaf = verbLeaf({
  name: 'start',
  summary: 'Start an instance; a paused one is resumed',
  method: 'instance.start',
  done: 'Started',
  paramsOf: (given) => ({ id: nameOf(given) }),
});

const stopLeaf = verbLeaf({
  name: 'stop',
  summary: 'Stop an instance: ask the guest, then, only if asked to, pull the plug',
  method: 'instance.stop',
  done: 'Stopped',
  options: [
    {
      flag: 'mode',
      value: 'mode',
      choices: STOP_MODES,
      summary: 'graceful asks the guest; forced pulls the plug (default: graceful)',
    },
    guestSeconds,
  ],
  paramsOf: (given) => ({
    id: nameOf(given),
    mode: STOP_MODES.find((mode) => mode === given.text('mode')) ?? 'graceful',
    timeoutSeconds: given.integer('timeout-seconds') ?? GUEST_SECONDS_DEFAULT,
  }),
});

const rebootLeaf = verbLeaf({
  name: 'reboot',
  summary: 'Reboot an instance: ask the guest, or reset it',
  method: 'instance.reboot',
  done: 'Rebooted',
  options: [
    {
      flag: 'mode',
      value: 'mode',
      choices: REBOOT_MODES,
      summary: 'graceful asks the guest; forced resets it (default: graceful)',
    },
    guestSeconds,
  ],
  paramsOf: (given) => ({
    id: nameOf(given),
    mode: REBOOT_MODES.find((mode) => mode === given.text('mode')) ?? 'graceful',
    timeoutSeconds: given.integer('timeout-seconds') ?? GUEST_SECONDS_DEFAULT,
  }),
});

const restoreLeaf = verbLeaf({
  name: 'restore',
  summary:
    'Define the guest of an instance again where others have changed it, and start one that they stopped',
  method: 'instance.restore',
  done: 'Restored',
  options: [
    {
      flag: 'scope',
      value: 'scope',
      choices: RESTORE_SCOPES,
      summary: 'definition starts and resumes no guest (default: all)',
    },
  ],
  paramsOf: (given) => ({
    id: nameOf(given),
    scope: RESTORE_SCOPES.find((scope) => scope === given.text('scope')) ?? 'all',
  }),
});

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'instance.list',
    plural: 'instances',
    render: ({ instances }, look) => table(COLUMNS, instances, look),
  }),
  showLeaf({
    method: 'instance.show',
    kind: 'instance',
    render: ({ instance: shown, health: its }, look) => renderInstance(shown, its, look),
  }),
  createLeaf,
  startLeaf,
  stopLeaf,
  rebootLeaf,
  configureLeaf,
  restoreLeaf,
  takeoverLeaf,
  deleteLeaf({
    method: 'instance.delete',
    kind: 'instance',
    summary: 'Stop an instance and delete it with the disks that were made with it',
    loses: 'the disks that were made with it',
    wipes: true,
  }),
  consoleLeaf,
];

interface Verb<M extends OperationMethod> {
  name: string;
  summary: string;
  method: M;
  done: string;
  options?: readonly OptionSpec[];
  paramsOf: (given: Given) => Parameters<typeof operate<M>>[2]['params'];
}

function verbLeaf<M extends OperationMethod>(verb: Verb<M>): Leaf {
  return {
    name: verb.name,
    summary: verb.summary,
    args: [nameArgument('instance')],
    options: [...(verb.options ?? []), ...OPERATION_OPTIONS],
    doing: (given) => `${verb.name} instance ${nameOf(given)}`,
    run: (session, given) =>
      operate(session, given, {
        method: verb.method,
        params: verb.paramsOf(given),
        done: `${verb.done} instance ${nameOf(given)}`,
      }),
  };
}

/** While it is made or deleted, that is what matters; then its power state. */
function stateOf({ lifecycle, power }: Instance): string {
  return lifecycle === 'ready' ? power.state : lifecycle;
}

/** Of one link alone, and no way to the guest from elsewhere. @see RFC 3927 and RFC 4291 */
const LINK_LOCAL = /^(169\.254\.|fe[89ab])/i;

/** What the guest says, else what its ports were given. */
function addressesOf({ guest, nics }: Instance): string[] {
  const all = guest?.addresses.map(({ address }) => address) ?? [];
  const seen = all.filter((address) => !LINK_LOCAL.test(address));
  return seen.length > 0 ? seen : nics.map(({ ipAddress }) => ipAddress);
}

function renderInstance(shown: Instance, its: Health, look: Look): string {
  const { spec, power, guest } = shown;
  const disks = shown.disks.map((disk) => ({ disk, size: formatGib(disk.sizeGib) }));
  return [
    fields(
      [
        ['Name', shown.name],
        ['ID', shown.id],
        ['State', stateOf(shown), 'state'],
        ['Since', `${power.since} (${formatAge(power.since, look.nowMs)} ago)`],
        ['Reason', power.reason],
        ...(its.state === 'ok' ? [] : [['Health', health(its, look), 'state'] as const]),
        ['Desired', desiredOf(shown)],
        ['On crash', crashPolicyOf(shown)],
        ['On boot', spec.policies.onBoot],
        ['On drift', spec.policies.onDrift],
        ['Watchdog', spec.watchdog],
        ['VCPUs', spec.vcpus],
        ['Memory', formatMib(spec.memoryMib)],
        ['Firmware', spec.firmware],
        ['SSH keys', spec.sshAuthorizedKeys.length],
        ['User data', shown.userDataBytes === 0 ? '-' : formatBytes(shown.userDataBytes)],
        ['Vendor data', shown.vendorDataBytes === 0 ? '-' : formatBytes(shown.vendorDataBytes)],
        ['Generation', shown.generation],
        ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ['Guest says', guest === null ? 'nothing yet' : guestLines(guest.addresses)],
      ],
      look,
    ),
    renderDrift(shown, look),
    'Disks:\n',
    indent(table(DISK_COLUMNS, disks, look)),
    ...(shown.shares.length === 0 ? [] : ['Shares:\n', indent(table(SHARE_COLUMNS, shown.shares, look))]),
    'NICs:\n',
    indent(table(NIC_COLUMNS, shown.nics, look)),
  ].join('');
}

function desiredOf({ desired, disowned }: Instance): string[] {
  return disowned === null ? [desired] : [desired, `disowned since ${disowned.at}: ${disowned.reason}`];
}

function crashPolicyOf({ spec, restarts }: Instance): string[] {
  const { action, limit } = spec.policies.onCrash;
  const policy = action === 'restart' ? `restart, at most ${limit} times an hour` : action;
  if (restarts === null) return [policy];
  const { count, lastAt, nextAt, givenUp } = restarts;
  return [
    policy,
    ...(lastAt === null ? [] : [`started ${count} times by its policies, last at ${lastAt}`]),
    ...(nextAt === null ? [] : [`is started again at ${nextAt}`]),
    ...(givenUp === null ? [] : [`given up: ${givenUp}`]),
  ];
}

function guestLines(addresses: NonNullable<Instance['guest']>['addresses']): string[] {
  return addresses.map((one) => `${one.interface} ${one.address}/${one.prefix} (${one.macAddress})`);
}
