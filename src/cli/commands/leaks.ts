/** `berth leaks`: what Berth has made on this host and nothing owns any more, and its removal. */
import type { Leak, NodeLeaks } from '../../model/leak.ts';
import { EXIT, type ExitCode, usageError } from '../failure.ts';
import type { Given, LeafBody } from '../leaf.ts';
import { CONFIRM_OPTIONS, confirm, OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, type Look, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatAge, formatBytes } from '../render/units.ts';
import type { Session } from '../session.ts';

const COLUMNS: Column<Leak>[] = [
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'STATE', value: stateOf },
  {
    title: 'SIZE',
    value: ({ sizeBytes }) => (sizeBytes === null ? '-' : formatBytes(sizeBytes)),
    align: 'right',
  },
  { title: 'SEEN', value: ({ since }, { nowMs }) => formatAge(since, nowMs), align: 'right' },
  { title: 'MADE BY', value: ({ proof }) => proof?.operationId ?? '-' },
  { title: 'NAME', value: ({ name }) => name },
];

export const leaks: LeafBody = {
  args: [
    {
      name: 'names',
      summary: 'only these, as NAME shows them (default: all)',
      repeatable: true,
      optional: true,
    },
  ],
  options: [
    {
      flag: 'remove',
      summary: 'remove those that the journal proves ours and nobody uses; unproven ones never',
    },
    ...CONFIRM_OPTIONS,
    ...OPERATION_OPTIONS,
  ],
  details: [
    'STATE is one of: removable; unconfirmed, seen in one look so far; in-use, by',
    'something else on the host; unproven, which looks like ours while the journal',
    'of this node does not know it, as with what another berthd here has made.',
    'A removal looks twice, ten seconds apart. The exit code is 1 where a part of',
    'the host could not be asked.',
  ].join('\n'),
  doing: (given) => (given.on('remove') ? 'remove leaks' : 'look for leaks'),
  async run(session, given) {
    const names = given.texts('names');
    const result = await session.client.call('node.leaks', {});
    if (given.on('remove')) return remove(session, given, { result, names });
    const shown = names.length === 0 ? result : only(result, names);
    await session.answerResult('node.leaks', shown, renderLeaks);
    return result.unknown.length === 0 ? EXIT.done : EXIT.failed;
  },
};

async function remove(
  session: Session,
  given: Given,
  { result, names }: { result: NodeLeaks; names: readonly string[] },
): Promise<ExitCode> {
  const { io } = session;
  const asks = io.stdin.isTTY === true && io.stderr.isTTY === true;
  if (names.length === 0 && !given.on('yes') && !asks) {
    throw usageError('--remove without names needs --yes where nobody can be asked', {
      hint: 'Give --yes, or the names of what is to go: see `berth leaks`.',
    });
  }
  const count = names.length === 0 ? result.leaks.filter(({ proof }) => proof !== null).length : names.length;
  if (count > 0) await confirm(session, given, `Remove ${count} leaks of this host for good?`);
  return operate(session, given, {
    method: 'node.collect',
    params: names.length === 0 ? {} : { names: [...names] },
    done: count === 0 ? 'Nothing to remove' : 'Removed the leaks that nobody uses',
  });
}

function only(result: NodeLeaks, names: readonly string[]): NodeLeaks {
  const leaks = result.leaks.filter(({ name }) => names.includes(name));
  return { ...result, leaks, total: leaks.length };
}

function renderLeaks({ leaks, total, unknown, confirmInMs }: NodeLeaks, look: Look): string {
  const waits = confirmInMs !== null && leaks.some(({ confirmed }) => !confirmed);
  const used = leaks.filter(({ proof, blocked }) => proof !== null && blocked !== null);
  return [
    table(COLUMNS, leaks, look),
    ...used.map(({ name, blocked }) => `${clean(name)} stays: ${clean(blocked ?? '')}\n`),
    ...(total > leaks.length ? [`${total - leaks.length} more are not listed.\n`] : []),
    ...(waits
      ? ['Some were seen for the first time; what is being made right now may be among them.\n']
      : []),
    ...unknown.map(
      ({ part, pool, reason }) =>
        `Unknown: the ${part}${pool === null ? '' : ` of pool ${clean(pool)}`} could not be asked: ${clean(reason)}\n`,
    ),
  ].join('');
}

function stateOf({ proof, blocked, confirmed }: Leak): string {
  if (proof === null) return 'unproven';
  if (blocked !== null) return 'in-use';
  return confirmed ? 'removable' : 'unconfirmed';
}
