/**
 * Every command of `berth`, in the order in which help shows them.
 *
 * Only the commands that a line may mean are loaded, with what they need: loading all of them costs as much
 * as the rest of a short command.
 */
import type { Head, Leaf, LeafBody, Node } from '../leaf.ts';

type Entry = Head & ({ leaf: () => Promise<LeafBody> } | { group: () => Promise<readonly Leaf[]> });

const ENTRIES: readonly Entry[] = [
  {
    name: 'status',
    summary: 'Tell how the node is: hypervisor, storage, scheduler, instances, operations',
    leaf: async () => (await import('./node.ts')).status,
  },
  {
    name: 'doctor',
    summary: 'Look for what keeps this host from running instances, and how to mend it',
    leaf: async () => (await import('./node.ts')).doctor,
  },
  {
    name: 'foreign',
    summary: 'List the guests of this host that Berth did not define, and never touches',
    leaf: async () => (await import('./node.ts')).foreign,
  },
  {
    name: 'inventory',
    summary: 'Tell what the node has, what is taken, and what is left',
    leaf: async () => (await import('./inventory.ts')).inventory,
  },
  {
    name: 'load',
    summary: 'Tell what the node really uses now, whatever is claimed',
    leaf: async () => (await import('./load.ts')).load,
  },
  {
    name: 'leaks',
    summary: 'Look for what Berth made on this host and nothing owns any more, and remove it',
    leaf: async () => (await import('./leaks.ts')).leaks,
  },
  {
    name: 'instance',
    summary: 'Instances: the virtual machines of this node',
    group: async () => (await import('./instance.ts')).commands,
  },
  {
    name: 'reservation',
    summary: 'Reservations: room that is kept free for a while',
    group: async () => (await import('./reservation.ts')).commands,
  },
  {
    name: 'image',
    summary: 'Images that volumes are made from',
    group: async () => (await import('./image.ts')).commands,
  },
  {
    name: 'volume',
    summary: 'Volumes: the disks of instances',
    group: async () => (await import('./volume.ts')).commands,
  },
  {
    name: 'pool',
    summary: 'Pools that volumes are in, as configured',
    group: async () => (await import('./pool.ts')).commands,
  },
  {
    name: 'snapshot',
    summary: 'Snapshots of instances: their disks, and memory, at one moment',
    group: async () => (await import('./snapshot.ts')).commands,
  },
  {
    name: 'share',
    summary: 'Shares: folders that guests mount',
    group: async () => (await import('./share.ts')).commands,
  },
  {
    name: 'backup',
    summary: 'Backups of instances, in object stores',
    group: async () => (await import('./backup.ts')).commands,
  },
  {
    name: 'network',
    summary: 'Networks that instances are on',
    group: async () => (await import('./network.ts')).commands,
  },
  {
    name: 'operation',
    summary: 'Operations: what the agent does, did and will do',
    group: async () => (await import('./operation.ts')).commands,
  },
  {
    name: 'usage',
    summary: 'Usage: what instances and volumes have used, for billing',
    group: async () => (await import('./usage.ts')).commands,
  },
  {
    name: 'node',
    summary: 'The identity of this node towards its scheduler: enrolment, certificate',
    group: async () => (await import('./node-identity.ts')).commands,
  },
  {
    name: 'audit',
    summary: 'The audit log: who asked for which change, and what came of it',
    group: async () => (await import('./audit.ts')).commands,
  },
  {
    name: 'recover',
    summary: 'Take what is on the host and not in the database into it',
    leaf: async () => (await import('./node.ts')).recover,
  },
  {
    name: 'save',
    summary: "Copy the agent's database to a new file",
    leaf: async () => (await import('./node.ts')).save,
  },
  {
    name: 'events',
    summary: 'Print what has changed on this node, one event a line',
    leaf: async () => (await import('./events.ts')).events,
  },
  {
    name: 'call',
    summary: 'Call a method of the agent as it is, once, and print its result as JSON',
    leaf: async () => (await import('./call.ts')).call,
  },
  {
    name: 'completion',
    summary: 'Print the completion script of a shell',
    leaf: async () => (await import('./completion.ts')).completion,
  },
  {
    name: 'complete-names',
    summary: 'Print the names that a shell may offer',
    hidden: true,
    leaf: async () => (await import('./completion.ts')).completeNames,
  },
];

/** The commands whose names are words of the line, loaded; of all others what help says of them. */
export function treeFor(argv: readonly string[]): Promise<Head[]> {
  return Promise.all(ENTRIES.map((entry) => (argv.includes(entry.name) ? load(entry) : headOf(entry))));
}

/** Every command, loaded. */
export function wholeTree(): Promise<Node[]> {
  return Promise.all(ENTRIES.map(load));
}

async function load(entry: Entry): Promise<Node> {
  const head = headOf(entry);
  return 'leaf' in entry ? { ...head, ...(await entry.leaf()) } : { ...head, commands: await entry.group() };
}

function headOf({ name, summary, hidden }: Entry): Head {
  return hidden ? { name, summary, hidden } : { name, summary };
}
