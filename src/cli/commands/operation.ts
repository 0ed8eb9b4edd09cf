/** `berth operation …` */
import type { Operation, Retry } from '../../model/operation.ts';
import { CliError, EXIT } from '../failure.ts';
import type { ArgumentSpec, Given, Leaf } from '../leaf.ts';
import { failureOf, finish, WAIT_OPTIONS } from '../operate.ts';
import { type Column, fields, indent, type Look, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatAge, formatUntil } from '../render/units.ts';
import { operationOf, type Session } from '../session.ts';
import { waitForOperation } from '../wait.ts';
import { LIST_LIMIT, OBJECT_KINDS, OPERATION_STATES } from '../words.ts';

const COLUMNS: Column<Operation>[] = [
  { title: 'ID', value: (operation) => operation.id },
  { title: 'KIND', value: (operation) => operation.kind },
  { title: 'TARGET', value: (operation) => operation.target.name },
  { title: 'BY', value: (operation) => operation.askedBy ?? '-' },
  { title: 'STATE', value: (operation) => operation.state, state: true },
  { title: 'STEP', value: (operation) => operation.progress.step ?? '-' },
  { title: 'DONE', value: (operation) => `${operation.progress.percent} %`, align: 'right' },
  { title: 'AGE', value: (operation, { nowMs }) => formatAge(operation.createdAt, nowMs), align: 'right' },
  { title: 'ERROR', value: ({ error, retry }) => error?.message ?? retry?.error.message ?? '-' },
];

const STEP_COLUMNS: Column<Operation['steps'][number]>[] = [
  { title: 'STEP', value: (step) => step.name },
  { title: 'STATE', value: (step) => step.state, state: true },
  { title: 'STARTED', value: (step) => step.startedAt ?? '-' },
  { title: 'ENDED', value: (step) => step.endedAt ?? '-' },
];

const id: ArgumentSpec = { name: 'id', summary: 'id of the operation', completes: 'operation' };

const listLeaf: Leaf = {
  name: 'list',
  summary: 'List operations, newest first',
  options: [
    { flag: 'state', value: 'state', choices: OPERATION_STATES, summary: 'only those in this state' },
    { flag: 'kind', value: 'kind', choices: OBJECT_KINDS, summary: 'only those on this kind of object' },
    { flag: 'parent', value: 'id', completes: 'operation', summary: 'only the parts of this operation' },
    { flag: 'limit', value: 'count', integer: true, summary: `at most so many (default: ${LIST_LIMIT})` },
  ],
  doing: () => 'list operations',
  async run(session, given) {
    const state = OPERATION_STATES.find((one) => one === given.text('state'));
    const targetKind = OBJECT_KINDS.find((one) => one === given.text('kind'));
    const parentId = given.text('parent');
    const result = await session.client.call('operation.list', {
      limit: given.integer('limit') ?? LIST_LIMIT,
      ...(state === undefined ? {} : { state }),
      ...(targetKind === undefined ? {} : { targetKind }),
      ...(parentId === undefined ? {} : { parentId }),
    });
    await session.answerResult('operation.list', result, ({ operations }, look) =>
      table(COLUMNS, operations, look),
    );
    return EXIT.done;
  },
};

const showLeaf: Leaf = {
  name: 'show',
  summary: 'Show one operation with its steps',
  args: [id],
  doing: (given) => `show operation ${given.argument('id')}`,
  async run(session, given) {
    const result = await session.client.call('operation.get', { id: given.argument('id'), waitSeconds: 0 });
    const parts = await partsOf(session, result.operation);
    await session.answerResult('operation.get', result, ({ operation }, look) =>
      renderOperation(operation, parts, look),
    );
    return EXIT.done;
  },
};

/** The parts of an operation, oldest first; asked for only where there are any. */
async function partsOf(session: Session, { id: parentId, children }: Operation): Promise<Operation[]> {
  if (!children?.total) return [];
  const { operations } = await session.client.call('operation.list', { parentId, limit: LIST_LIMIT });
  return operations.toReversed();
}

const cancelLeaf: Leaf = {
  name: 'cancel',
  summary: 'Ask an operation to stop; what it did is undone',
  args: [id],
  options: WAIT_OPTIONS,
  doing: (given) => `cancel operation ${given.argument('id')}`,
  async run(session, given) {
    const answer = await session.client.call('operation.cancel', { id: given.argument('id') });
    const begun = await operationOf('operation.cancel', answer);
    if (given.on('no-wait') && !given.on('wait')) return finish(session, given, begun, '');
    const operation = await waitForOperation(session, begun, { timeoutSeconds: given.integer('timeout') });
    if (operation.state !== 'cancelled') throw notCancelled(operation);
    session.answer({ operation }, () => `Cancelled operation ${clean(operation.id)}.\n`);
    return EXIT.done;
  },
};

const waitLeaf: Leaf = {
  name: 'wait',
  summary: 'Wait until an operation has ended',
  args: [id],
  options: WAIT_OPTIONS.filter(({ flag }) => flag === 'timeout'),
  details: 'The exit code is 1 where the operation failed or was cancelled.',
  doing: (given) => `wait for operation ${given.argument('id')}`,
  async run(session, given) {
    const answer = await session.client.call('operation.get', { id: given.argument('id'), waitSeconds: 0 });
    return waitShown(session, given, await operationOf('operation.get', answer));
  },
};

export const commands: readonly Leaf[] = [listLeaf, showLeaf, cancelLeaf, waitLeaf];

async function waitShown(session: Session, given: Given, begun: Operation) {
  return finish(
    session,
    given,
    begun,
    `Operation ${begun.id} (${begun.kind} ${begun.target.name}) succeeded`,
  );
}

function notCancelled(ended: Operation): CliError {
  if (ended.state === 'failed') return failureOf(ended);
  return new CliError(EXIT.failed, 'ILLEGAL_STATE', 'it had already succeeded', {
    document: { operation: ended },
  });
}

function renderOperation(shown: Operation, parts: readonly Operation[], look: Look): string {
  const { error, target, progress, retry, parentId, children } = shown;
  return [
    fields(
      [
        ['ID', shown.id],
        ['Kind', shown.kind],
        ['Target', `${target.kind} ${target.name} (${target.id})`],
        ['Asked by', shown.askedBy ?? '-'],
        ['State', shown.state, 'state'],
        ['Progress', `${progress.percent} %${progress.step === null ? '' : `, ${progress.step}`}`],
        ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ['Started', shown.startedAt ?? '-'],
        ['Ended', shown.endedAt ?? '-'],
        ...(parentId === null ? [] : [['Part of', parentId] as const]),
        ...(parts.length === 0
          ? []
          : [['Parts', `${children.ended} of ${children.total} have ended`] as const]),
        ...(retry === null ? [] : [['Tried again', retryLines(retry, look)] as const]),
        ['Error', error === null ? '-' : `${error.code}: ${error.message}`],
        ...(error?.hint === undefined ? [] : [['Hint', error.hint] as const]),
      ],
      look,
    ),
    'Steps:\n',
    indent(table(STEP_COLUMNS, shown.steps, look)),
    ...(parts.length === 0 ? [] : ['Parts:\n', indent(table(COLUMNS, parts, look))]),
  ].join('');
}

function retryLines({ step, doing, attempt, nextTryAt, error, needsOperator }: Retry, { nowMs }: Look) {
  const what = { act: `${step}`, undo: `undo of ${step}`, journal: 'writing of its journal' }[doing];
  return [
    `${what}, ${formatUntil(nextTryAt, nowMs)}, after ${attempt} failed ${attempt === 1 ? 'try' : 'tries'}`,
    `${error.code}: ${error.message}`,
    ...(needsOperator ? ['an operator has to decide'] : []),
  ];
}
