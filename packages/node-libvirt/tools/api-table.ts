/**
 * Writes docs/api.md: which function of libvirt's public API is which method, and why some are none.
 */
import type { Plan, PlannedMethod } from './api-plan.ts';
import { type ApiClass, CLASSES } from './api-rules.ts';
import { methodName } from './api-plan.ts';

const HEAD = `# libvirt's functions and their methods

Made by \`tools/generate.ts\` from libvirt's own descriptions. *Calls* says which sockets a method uses: \`short\` ones are
answered from the daemon's memory, \`long\` ones wait for QEMU, the guest or a disk, \`control\` ones get through while
others hang.
`;

export function apiTable(plan: Plan, version: string): string {
  const sections = CLASSES.map((owner) => classTable(owner, plan));
  const others = plan.exceptions
    .filter(({ exception }) => exception.kind !== 'byHand')
    .map(({ function: fn, exception }) => `| ${fn.name} | ${exception.why} |`);
  const methods = plan.methods.length + byHand(plan).length;
  const onTheWire = plan.exceptions.filter(({ exception }) => exception.kind === 'never').length;
  return [
    HEAD,
    `Of the ${methods + onTheWire} functions of libvirt ${version} that go over the wire, ${methods} are methods. The last table says how`,
    'to do without the others, and without those that are only about the C library itself.',
    '',
    ...sections,
    '## Functions without a method\n',
    '| libvirt | instead |',
    '| --- | --- |',
    ...others,
    '',
  ].join('\n');
}

function classTable(owner: ApiClass, plan: Plan): string {
  const rows = plan.methods.filter((method) => method.class === owner).map(row);
  const hand = byHand(plan)
    .filter(
      ({ function: fn }) =>
        fn.args[0]?.type === owner.pointer || (owner.wire === null && isOfMany(fn.args[0]?.type)),
    )
    .map(
      ({ function: fn }) =>
        `| ${fn.name} | \`${methodName(fn.name, owner)}\` | ${fn.since} | written by hand |`,
    );
  return [
    `## ${owner.name}\n`,
    '| libvirt | method | since | calls |',
    '| --- | --- | --- | --- |',
    ...[...rows, ...hand].toSorted(),
    '',
  ].join('\n');
}

function byHand(plan: Plan): Plan['exceptions'] {
  return plan.exceptions.filter(({ exception }) => exception.kind === 'byHand');
}

/** virDomainListGetStats takes a list of domains, and is a method of their connection. */
function isOfMany(type: string | undefined): boolean {
  return type !== undefined && !CLASSES.some(({ pointer }) => pointer === type);
}

function row({ function: fn, name, procedure, role }: PlannedMethod): string {
  const how = /[<>]/.test(procedure.has) ? 'a stream' : role;
  return `| ${fn.name} | \`${name}\` | ${fn.since} | ${how} |`;
}
