/** `berth pool …` */
import type { Pool } from '../../model/pool.ts';
import { EXIT } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { type Column, fields, type Look, table } from '../render/table.ts';
import { formatAge, formatBytes, formatGib } from '../render/units.ts';
import { listLeaf, nameOf } from './nouns.ts';
import { health } from './node.ts';

const COLUMNS: Column<Pool>[] = [
  { title: 'NAME', value: (pool) => pool.name },
  { title: 'STATE', value: ({ health: { state } }) => state, state: true },
  { title: 'FILE SYSTEM', value: fileSystemText },
  { title: 'ROOM', value: ({ room }) => room },
  { title: 'VOLUMES', value: ({ volumes }) => volumes, align: 'right' },
  { title: 'USED', value: ({ disk }) => (disk === null ? '-' : formatGib(disk.used)), align: 'right' },
  {
    title: 'AVAILABLE',
    value: ({ disk }) => (disk === null ? '-' : formatGib(disk.available)),
    align: 'right',
  },
  { title: 'PATH', value: ({ path }) => path },
];

const showLeaf: Leaf = {
  name: 'show',
  summary: 'Show one pool',
  args: [{ name: 'name', summary: 'name of the pool', completes: 'pool' }],
  doing: (given) => `show pool ${nameOf(given)}`,
  async run(session, given) {
    const result = await session.client.call('pool.show', { id: nameOf(given) });
    await session.answerResult('pool.show', result, ({ pool }, look) => renderPool(pool, look));
    return EXIT.done;
  },
};

function renderPool(pool: Pool, look: Look): string {
  return fields(
    [
      ['Name', pool.name],
      ['Health', health(pool.health, look), 'state'],
      ['Calls', health(pool.breaker, look), 'state'],
      ['Path', pool.path],
      ['Mounts', pool.nfs ?? '-'],
      ['File system', fileSystemText(pool)],
      ['Copies share blocks', pool.reflink === null ? 'not known' : pool.reflink ? 'yes' : 'no'],
      ['Volumes', pool.volumes],
      ['Room', pool.room],
      ['Claims', claimsText(pool)],
      ['Disk', diskText(pool)],
      ['Measured', pool.measuredAt === null ? 'never' : `${formatAge(pool.measuredAt, look.nowMs)} ago`],
    ],
    look,
  );
}

function fileSystemText({ fileSystem, shared }: Pool): string {
  return `${fileSystem ?? 'unknown'}${shared ? ', shared' : ''}`;
}

function claimsText({ disk }: Pool): string {
  if (disk === null) return '-';
  const { total, reserved, allocationRatio, used, available } = disk;
  const room = `${formatGib(total)} less ${formatGib(reserved)}, by ${allocationRatio}`;
  return `${formatGib(used)} used, ${formatGib(available)} available (${room})`;
}

function diskText({ bytes }: Pool): string {
  if (bytes === null) return '-';
  const { total, available, own } = bytes;
  return `${formatBytes(available)} of ${formatBytes(total)} free, ${formatBytes(own)} in files of the pool`;
}

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'pool.list',
    plural: 'pools',
    render: ({ pools }, look) => table(COLUMNS, pools, look),
  }),
  showLeaf,
];
