/** `berth reservation …`: room that is kept free for a while. */
import type { Params } from '../../model/methods.ts';
import type { Reservation, ReservedResources } from '../../model/reservation.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { type Column, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatGib, formatMib, formatUntil } from '../render/units.ts';

const SECONDS_DEFAULT = 600;

const COLUMNS: Column<Reservation>[] = [
  { title: 'ID', value: ({ id }) => id },
  { title: 'VCPUS', value: ({ resources }) => resources.VCPU ?? '-', align: 'right' },
  { title: 'MEMORY', value: ({ resources: { MEMORY_MB } }) => memoryText(MEMORY_MB), align: 'right' },
  { title: 'DISK', value: ({ resources: { DISK_GB = [] } }) => DISK_GB.map(diskText).join(', ') },
  { title: 'EXPIRES', value: expiryText },
  { title: 'NOTE', value: ({ note }) => note },
];

export const commands: readonly Leaf[] = [
  {
    name: 'create',
    summary: 'Keep room of this node free for a while',
    options: [
      { flag: 'vcpus', value: 'count', integer: true, summary: 'virtual CPUs' },
      {
        flag: 'memory-mib',
        value: 'mib',
        integer: true,
        summary: 'MiB of memory, what QEMU takes for itself included',
      },
      { flag: 'disk', value: 'gib', repeatable: true, summary: 'GiB of disk, or POOL:GIB; may be repeated' },
      {
        flag: 'seconds',
        value: 'seconds',
        integer: true,
        summary: `how long at most (default: ${SECONDS_DEFAULT})`,
      },
      { flag: 'note', value: 'text', summary: 'for people: what it is for' },
      {
        flag: 'id',
        value: 'uuid',
        summary: 'UUID to give it; a repeat with the same one reserves nothing more',
      },
    ],
    details: [
      'Prints its UUID, for `berth instance create --reservation UUID`. What the instance needs beyond it has to be free',
      'then. An instance takes more memory than its guest has: some 70 MiB, and more with its size.',
    ].join('\n'),
    doing: () => 'keep room free',
    async run(session, given) {
      const result = await session.client.call('reservation.create', paramsOf(given));
      await session.answerResult('reservation.create', result, ({ reservation }) => `${reservation.id}\n`);
      return EXIT.done;
    },
  },
  {
    name: 'list',
    summary: 'List the reservations of this node, those first that expire first',
    doing: () => 'list the reservations',
    async run(session) {
      const result = await session.client.call('reservation.list', {});
      await session.answerResult('reservation.list', result, ({ reservations }, look) =>
        table(COLUMNS, reservations, look),
      );
      return EXIT.done;
    },
  },
  {
    name: 'release',
    summary: 'Free the room of a reservation before its time',
    args: [{ name: 'uuid', summary: 'of the reservation' }],
    doing: (given) => `release reservation ${given.argument('uuid')}`,
    async run(session, given) {
      const id = given.argument('uuid');
      const result = await session.client.call('reservation.release', { id });
      await session.answerResult('reservation.release', result, ({ released }) =>
        released ? `Released reservation ${clean(id)}\n` : `There is no reservation ${clean(id)} any more\n`,
      );
      return EXIT.done;
    },
  },
];

function paramsOf(given: Given): Params<'reservation.create'> {
  const [VCPU, MEMORY_MB] = [given.integer('vcpus'), given.integer('memory-mib')];
  const [note, id] = [given.text('note'), given.text('id')];
  const disks = given.texts('disk').map(diskOf);
  const resources: ReservedResources = {
    ...(VCPU !== undefined && { VCPU }),
    ...(MEMORY_MB !== undefined && { MEMORY_MB }),
    ...(disks.length > 0 && { DISK_GB: disks }),
  };
  return {
    resources,
    seconds: given.integer('seconds') ?? SECONDS_DEFAULT,
    ...(note !== undefined && { note }),
    ...(id !== undefined && { id }),
  };
}

function diskOf(text: string): { pool: string; gib: number } {
  const [, pool = 'default', gib] = /^(?:([a-z0-9-]+):)?(\d{1,5})$/.exec(text) ?? [];
  if (gib === undefined) {
    throw usageError(`--disk ${text} is not GIB or POOL:GIB`, { hint: 'As --disk 20 or --disk fast:20.' });
  }
  return { pool, gib: Number(gib) };
}

function memoryText(mib: number | undefined): string {
  return mib === undefined ? '-' : formatMib(mib);
}

function diskText({ pool, gib }: { pool: string; gib: number }): string {
  return `${clean(pool)} ${formatGib(gib)}`;
}

function expiryText({ expiresAt, instanceId }: Reservation, { nowMs }: { nowMs: number }): string {
  return instanceId === null ? formatUntil(expiresAt, nowMs) : `taken by ${clean(instanceId)}`;
}
