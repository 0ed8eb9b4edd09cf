/** `berth network …` */
import type { Network, NetworkSpec } from '../../model/network.ts';
import { usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { readJsonFile } from '../read-file.ts';
import { type Column, fields, table } from '../render/table.ts';
import { formatAge } from '../render/units.ts';
import type { Session } from '../session.ts';
import { checkSpec } from '../spec.ts';
import { deleteLeaf, listLeaf, showLeaf } from './nouns.ts';

const COLUMNS: Column<Network>[] = [
  { title: 'NAME', value: (network) => network.name },
  { title: 'STATE', value: (network) => network.state, state: true },
  { title: 'CIDR', value: (network) => network.cidr },
  { title: 'BRIDGE', value: (network) => network.bridge },
  { title: 'NAT', value: (network) => yesNo(network.nat) },
  { title: 'DHCP', value: (network) => yesNo(network.dhcp) },
  { title: 'PORTS', value: (network) => network.ports, align: 'right' },
  { title: 'AGE', value: (network, { nowMs }) => formatAge(network.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (network) => network.id },
];

/** Options that a spec file says instead. */
const SPEC_FLAGS = ['cidr', 'no-nat', 'no-dhcp', 'dns'];

const createLeaf: Leaf = {
  name: 'create',
  summary: 'Make a network: a bridge with an address, DHCP and NAT',
  args: [{ name: 'name', summary: "name to give it; with --file, instead of the file's", optional: true }],
  options: [
    {
      flag: 'file',
      short: 'f',
      value: 'path',
      completes: 'file',
      summary: 'spec as JSON; - is standard input',
    },
    { flag: 'cidr', value: 'cidr', summary: 'IPv4 network, such as 10.80.0.0/24, prefix 16 to 29' },
    { flag: 'no-nat', summary: "do not let guests reach the outside through the host's address" },
    { flag: 'no-dhcp', summary: 'do not hand out addresses' },
    { flag: 'dns', value: 'address', repeatable: true, summary: 'DNS server for guests; may be repeated' },
    ...OPERATION_OPTIONS,
  ],
  doing: (given) => `create network ${given.text('name') ?? `from ${given.text('file')}`}`,
  async run(session, given) {
    const spec = await specOf(session, given);
    await checkSpec('network.create', spec, given.text('file') ?? 'the options');
    const { name } = spec as NetworkSpec;
    const params = { spec: spec as NetworkSpec };
    return operate(session, given, { method: 'network.create', params, done: `Created network ${name}` });
  },
};

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'network.list',
    plural: 'networks',
    render: ({ networks }, look) => table(COLUMNS, networks, look),
  }),
  showLeaf({
    method: 'network.show',
    kind: 'network',
    render: ({ network: shown }, look) =>
      fields(
        [
          ['Name', shown.name],
          ['ID', shown.id],
          ['State', shown.state, 'state'],
          ['CIDR', shown.cidr],
          ['Gateway', shown.gatewayAddress],
          ['Bridge', shown.bridge],
          ['NAT', yesNo(shown.nat)],
          ['DHCP', yesNo(shown.dhcp)],
          ['DNS servers', shown.dnsServers],
          ['Ports in use', shown.ports],
          ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ],
        look,
      ),
  }),
  createLeaf,
  deleteLeaf({ method: 'network.delete', kind: 'network', summary: 'Delete a network that no port uses' }),
];

async function specOf({ io }: Session, given: Given): Promise<unknown> {
  const file = given.text('file');
  const name = given.text('name');
  if (file === undefined) return specFromOptions(given, name);
  const both = SPEC_FLAGS.find((flag) => given.has(flag));
  if (both !== undefined) {
    throw usageError(`--${both} and --file exclude each other`, { hint: 'Say it in the file.' });
  }
  const spec = await readJsonFile(file, 'network spec', io);
  return name !== undefined && typeof spec === 'object' && spec !== null ? { ...spec, name } : spec;
}

function specFromOptions(given: Given, name: string | undefined): NetworkSpec {
  const cidr = given.text('cidr');
  if (name === undefined || cidr === undefined) {
    throw usageError(`${name === undefined ? 'the name' : '--cidr'} is missing`, {
      hint: 'As in `berth network create default --cidr 10.80.0.0/24`, or `berth network create -f FILE`.',
    });
  }
  return {
    name,
    cidr,
    nat: !given.on('no-nat'),
    dhcp: !given.on('no-dhcp'),
    dnsServers: [...given.texts('dns')],
  };
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
