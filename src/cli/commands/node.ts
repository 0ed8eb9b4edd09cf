/** `berth status`, `doctor`, `foreign`, `recover` and `backup`: the node itself. */
import { resolve } from 'node:path';
import type { Finding, ForeignGuest, Health, NodeStatus, Problem } from '../../model/node.ts';
import type { LeftOutObject, RecoveredObject, RecoveryReport } from '../../model/recovery.ts';
import { EXIT } from '../failure.ts';
import type { LeafBody } from '../leaf.ts';
import { toneOf } from '../render/style.ts';
import { type Column, fields, indent, type Look, table } from '../render/table.ts';
import { clean, padEnd, widthOf } from '../render/text.ts';
import { formatAge, formatBytes, formatCounts, formatMib, formatUntil } from '../render/units.ts';

export const status: LeafBody = {
  doing: () => 'tell how the node is',
  async run(session) {
    const result = await session.client.call('node.status', {});
    await session.answerResult('node.status', result, renderStatus);
    return EXIT.done;
  },
};

export const doctor: LeafBody = {
  details: 'The exit code is 1 where a check found a failure; a warning is none.',
  doing: () => 'examine the node',
  async run(session) {
    const result = await session.client.call('node.doctor', {});
    await session.answerResult('node.doctor', result, ({ findings }, look) => renderFindings(findings, look));
    return result.findings.some(({ verdict }) => verdict === 'failure') ? EXIT.failed : EXIT.done;
  },
};

export const foreign: LeafBody = {
  doing: () => 'list the foreign guests',
  async run(session) {
    const result = await session.client.call('node.foreign', {});
    await session.answerResult('node.foreign', result, ({ guests }, look) =>
      table(FOREIGN_COLUMNS, guests, look),
    );
    return EXIT.done;
  },
};

const FOREIGN_COLUMNS: Column<ForeignGuest>[] = [
  { title: 'NAME', value: (guest) => guest.name },
  { title: 'STATE', value: (guest) => guest.power.state, state: true },
  { title: 'VCPUS', value: (guest) => guest.vcpus, align: 'right' },
  { title: 'MEMORY', value: (guest) => formatMib(guest.memoryMib), align: 'right' },
  { title: 'ID', value: (guest) => guest.id },
];
export const recover: LeafBody = {
  options: [{ flag: 'dry-run', summary: 'only tell what would be taken' }],
  details:
    'What is in the database stays as it is, but that a free volume is given to the instance that has it.\n' +
    'Nothing on the host is changed, and no guest is touched.',
  doing: () => 'compare host and database',
  async run(session, given) {
    const result = await session.client.call('node.recover', { dryRun: given.on('dry-run') });
    await session.answerResult('node.recover', result, renderRecovery);
    return EXIT.done;
  },
};

export const save: LeafBody = {
  args: [{ name: 'file', summary: "new file on the agent's host", completes: 'file' }],
  details:
    'Everything goes on meanwhile. To put one back: stop berthd, move berth.sqlite and the files that begin with\n' +
    'berth.sqlite- away, copy the backup to berth.sqlite, start berthd.',
  doing: () => 'back the database up',
  async run(session, given) {
    const path = resolve(session.io.cwd, given.argument('file'));
    const result = await session.client.call('node.backup', { path });
    await session.answerResult(
      'node.backup',
      result,
      ({ bytes, sha256 }) => `Backed up to ${clean(path)}: ${formatBytes(bytes)}, SHA-256 ${sha256}\n`,
    );
    return EXIT.done;
  },
};

function renderStatus(node: NodeStatus, look: Look): string {
  return renderFacts(node, look) + renderProblems(node, look);
}

/** Each problem is a line of what and since when, and one of why: reasons are long. */
function renderProblems({ problems, problemsLeftOut }: NodeStatus, look: Look): string {
  if (problems.length === 0) return 'Problems: none\n';
  const more = problemsLeftOut === 0 ? '' : indent(`and ${problemsLeftOut} more\n`);
  return `Problems:\n${problems.map((problem) => renderProblem(problem, look)).join('')}${more}`;
}

function renderProblem({ object, since, reason, nextTryAt }: Problem, look: Look): string {
  const name = object.name === object.kind ? '' : ` ${clean(object.name)}`;
  const id = object.kind === 'operation' && object.id !== null ? ` (${clean(object.id)})` : '';
  const next = nextTryAt === null ? '' : `, next try ${formatUntil(nextTryAt, look.nowMs)}`;
  const head = `${look.paint(clean(object.kind), 'bad')}${name}${id}, for ${formatAge(since, look.nowMs)}${next}\n`;
  return indent(head + indent(`${clean(reason)}\n`));
}

function renderFacts(node: NodeStatus, look: Look): string {
  const { operations } = node;
  return fields(
    [
      ['Node', node.hostname],
      ['ID', node.nodeId],
      ['Version', node.version],
      ['Started', `${node.startedAt} (${formatAge(node.startedAt, look.nowMs)} ago)`],
      ['Hypervisor', health(node.hypervisor, look), 'state'],
      ['Storage', health(node.storage, look), 'state'],
      ['Database', health(node.database, look), 'state'],
      ['Scheduler', health(node.scheduler, look), 'state'],
      ['Policies', health(node.policies, look), 'state'],
      ['Instances', formatCounts(node.instances)],
      ['Foreign domains', node.foreignDomains],
      ['Operations', `${operations.running} running, ${operations.pending} pending`],
      ['Events to be sent', node.unacknowledgedEvents],
    ],
    look,
  );
}

/** How it is, for how long, and why. */
export function health({ state, since, reason }: Health, { nowMs }: Look): string[] {
  const first = clean(state);
  return reason === '' ? [first] : [first, `for ${formatAge(since, nowMs)}: ${clean(reason)}`];
}

const ADDED_COLUMNS: Column<RecoveredObject>[] = [
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'NAME', value: ({ name }) => name },
  { title: 'ID', value: ({ id }) => id },
  { title: 'NOTE', value: ({ note }) => note ?? '-' },
];
const LEFT_OUT_COLUMNS: Column<LeftOutObject>[] = [
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'NAME', value: ({ name }) => name },
  { title: 'ID', value: ({ id }) => id },
  { title: 'REASON', value: ({ reason }) => reason },
];

function renderRecovery({ dryRun, added, leftOut }: RecoveryReport, look: Look): string {
  const taken = dryRun ? 'Would be taken from the host' : 'Taken from the host';
  if (added.length === 0 && leftOut.length === 0) return 'The host has nothing that the database has not\n';
  return [
    added.length === 0 ? `${taken}: nothing\n` : `${taken}:\n${table(ADDED_COLUMNS, added, look)}`,
    leftOut.length === 0 ? '' : `\nLeft as it is:\n${table(LEFT_OUT_COLUMNS, leftOut, look)}`,
  ].join('');
}

function renderFindings(findings: readonly Finding[], look: Look): string {
  const width = Math.max(0, ...findings.map(({ check }) => widthOf(clean(check))));
  return findings.map((finding) => renderFinding(finding, width, look)).join('');
}

function renderFinding({ check, verdict, message, mend }: Finding, width: number, look: Look): string {
  const word = clean(verdict);
  const gap = ' '.repeat('warning'.length - Math.min(word.length, 'warning'.length));
  const line = `${look.paint(word, toneOf(word))}${gap}  ${padEnd(clean(check), width)}  ${clean(message)}\n`;
  return mend === null ? line : line + indent(`mend: ${clean(mend)}\n`);
}
