/** `berth snapshot …` */
import type { Snapshot } from '../../model/snapshot.ts';
import { EXIT } from '../failure.ts';
import type { ArgumentSpec, Given, Leaf } from '../leaf.ts';
import { CONFIRM_OPTIONS, confirm, OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, table } from '../render/table.ts';
import { formatAge, formatGib } from '../render/units.ts';
import { QUIESCE } from '../words.ts';
import { nameArgument, nameOf } from './nouns.ts';

const SNAPSHOT: ArgumentSpec = { name: 'snapshot', summary: 'name or id of the snapshot' };

/** A snapshot, indented by how many it came after. */
interface Branch extends Snapshot {
  depth: number;
}

const COLUMNS: Column<Branch>[] = [
  { title: 'NAME', value: ({ depth, name }) => '  '.repeat(depth) + name },
  { title: 'CURRENT', value: ({ current }) => (current ? 'yes' : '-') },
  { title: 'STATE', value: ({ state }) => state, state: true },
  { title: 'MEMORY', value: ({ memory }) => (memory ? 'yes' : '-') },
  { title: 'QUIESCED', value: ({ quiesced }) => (quiesced ? 'yes' : '-') },
  { title: 'DISKS', value: ({ volumes }) => String(volumes.length), align: 'right' },
  { title: 'SIZE', value: ({ volumes }) => formatGib(sumGib(volumes)), align: 'right' },
  { title: 'AGE', value: ({ createdAt }, { nowMs }) => formatAge(createdAt, nowMs), align: 'right' },
  { title: 'ID', value: ({ id }) => id },
];

const listLeaf: Leaf = {
  name: 'list',
  summary: 'List the snapshots of an instance, as the tree that they are',
  args: [nameArgument('instance')],
  doing: (given) => `list the snapshots of instance ${nameOf(given)}`,
  async run(session, given) {
    const result = await session.client.call('snapshot.list', { id: nameOf(given) });
    await session.answerResult('snapshot.list', result, ({ snapshots }, look) =>
      table(COLUMNS, branchesOf(snapshots), look),
    );
    return EXIT.done;
  },
};

const createLeaf: Leaf = {
  name: 'create',
  summary: 'Take a snapshot of an instance, while it goes on',
  args: [
    nameArgument('instance'),
    { name: 'snapshot', summary: 'name to give it (default: snap0, snap1 …)', optional: true },
  ],
  options: [
    { flag: 'memory', summary: 'with the memory of the guest, which stands still while it is written' },
    {
      flag: 'quiesce',
      value: 'when',
      choices: QUIESCE,
      summary: 'freeze its file systems by the agent in it (default: auto, where that answers)',
    },
    ...OPERATION_OPTIONS,
  ],
  details:
    'All of its disks are of one moment. Each snapshot takes as much room of the pool as the disks may change after it.',
  doing: (given) => `take a snapshot of instance ${nameOf(given)}`,
  async run(session, given) {
    const name = given.text('snapshot');
    const quiesce = (given.text('quiesce') ?? 'auto') as (typeof QUIESCE)[number];
    const wanted = { memory: given.has('memory'), quiesce };
    const params = { id: nameOf(given), ...(name !== undefined && { name }), ...wanted };
    const done = `Took a snapshot of instance ${nameOf(given)}`;
    return operate(session, given, { method: 'snapshot.create', params, done });
  },
};

const revertLeaf: Leaf = {
  name: 'revert',
  summary: 'Let an instance go on with what it was at a snapshot',
  args: [nameArgument('instance'), SNAPSHOT],
  options: [
    { flag: 'force', summary: 'pull its plug, if it runs' },
    { flag: 'start', summary: 'start it afterwards; one with memory runs anyway' },
    ...CONFIRM_OPTIONS,
    ...OPERATION_OPTIONS,
  ],
  details: 'What its disks hold now is lost, unless another snapshot keeps it. The snapshot stays.',
  doing: (given) => `revert instance ${nameOf(given)}`,
  async run(session, given) {
    const { id, snapshot } = its(given);
    await confirm(session, given, `Revert instance ${id} to ${snapshot}, and lose what its disks hold now?`);
    const wanted = { force: given.has('force'), start: given.has('start') };
    const done = `Reverted instance ${id} to ${snapshot}`;
    return operate(session, given, { method: 'snapshot.revert', params: { id, snapshot, ...wanted }, done });
  },
};

const deleteLeaf: Leaf = {
  name: 'delete',
  summary: 'Delete a snapshot; the instance goes on as it is',
  args: [nameArgument('instance'), SNAPSHOT],
  options: [...CONFIRM_OPTIONS, ...OPERATION_OPTIONS],
  details: 'What it kept, and nothing else keeps, is merged in the background.',
  doing: (given) => `delete a snapshot of instance ${nameOf(given)}`,
  async run(session, given) {
    const { id, snapshot } = its(given);
    await confirm(session, given, `Delete snapshot ${snapshot} of instance ${id}?`);
    const done = `Deleted snapshot ${snapshot} of instance ${id}`;
    return operate(session, given, { method: 'snapshot.delete', params: { id, snapshot }, done });
  },
};

const mergeLeaf: Leaf = {
  name: 'merge',
  summary: 'Merge what deleted snapshots have left, without waiting for the background',
  args: [nameArgument('instance')],
  options: [
    { flag: 'bandwidth', value: 'mib', integer: true, summary: 'MiB that are moved in a second at most' },
    ...OPERATION_OPTIONS,
  ],
  doing: (given) => `merge what snapshots of instance ${nameOf(given)} have left`,
  async run(session, given) {
    const bandwidthMib = given.integer('bandwidth');
    const params = { id: nameOf(given), ...(bandwidthMib !== undefined && { bandwidthMib }) };
    const done = `Merged what snapshots of instance ${nameOf(given)} had left`;
    return operate(session, given, { method: 'snapshot.merge', params, done });
  },
};

function its(given: Given): { id: string; snapshot: string } {
  return { id: nameOf(given), snapshot: given.argument('snapshot') };
}

/** Each after the one that it came after; those of one parent by age. */
function branchesOf(snapshots: readonly Snapshot[], parentId: string | null = null, depth = 0): Branch[] {
  return snapshots
    .filter((snapshot) => snapshot.parentId === parentId)
    .flatMap((snapshot) => [{ ...snapshot, depth }, ...branchesOf(snapshots, snapshot.id, depth + 1)]);
}

function sumGib(volumes: Snapshot['volumes']): number {
  return volumes.reduce((sum, { sizeGib }) => sum + sizeGib, 0);
}

export const commands: readonly Leaf[] = [listLeaf, createLeaf, revertLeaf, deleteLeaf, mergeLeaf];
