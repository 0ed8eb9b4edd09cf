/** docs/protocol.md: the wire, and every method of the method table. */
import { AGENT_CLAUSES } from '../../src/conformance/agent/clauses.ts';
import type { Clause } from '../../src/conformance/clause.ts';
import { SCHEDULER_CLAUSES } from '../../src/conformance/scheduler/clauses.ts';
import { METHODS, type Method } from '../../src/model/methods.ts';
import { AGENT_MESSAGES, HelloResult, SCHEDULER_MESSAGES } from '../../src/model/wire.ts';
import { agreement, events, intro, inventory, kit, limits } from './protocol-text.ts';
import { propertyRows, type SchemaNode, table } from './schema.ts';

export function protocolPage(): string {
  return [
    '<!-- Generated from src/model by `npm run docs`; do not edit. -->',
    '# The protocol',
    intro,
    agreement,
    events,
    inventory,
    limits,
    '## Messages beside the methods',
    ...Object.entries(AGENT_MESSAGES).map(([name, schema]) =>
      messageSection(`${name} (agent to scheduler)`, schema),
    ),
    messageSection('answer to hello', HelloResult),
    ...Object.entries(SCHEDULER_MESSAGES).map(([name, schema]) =>
      messageSection(`${name} (scheduler to agent)`, schema),
    ),
    '## Clauses',
    kit,
    clauseSection('An agent', AGENT_CLAUSES),
    clauseSection('A scheduler', SCHEDULER_CLAUSES),
    '## Methods',
    methodIndex(),
    ...Object.entries(METHODS).map(([name, method]) => methodSection(name, method)),
    '',
  ].join('\n\n');
}

function clauseSection<B>(who: string, clauses: readonly Clause<B>[]): string {
  const rows = clauses.map(({ id, level, text }) => `| \`${id}\` | ${level} | ${text} |`);
  return [`### ${who} …`, ['| clause |  |  |', '| --- | --- | --- |', ...rows].join('\n')].join('\n\n');
}

function methodIndex(): string {
  const rows = Object.entries(METHODS).map(([name, method]) => [
    `[${name}](#${name.replaceAll('.', '')})`,
    method.kind,
    method.role,
    method.summary,
  ]);
  return table(['method', 'kind', 'role', 'what it does'], rows);
}

function methodSection(name: string, method: Method): string {
  const params = propertyRows(method.params as SchemaNode);
  const results = propertyRows(method.result as SchemaNode);
  return [
    `### ${name}`,
    `${method.summary} Kind: ${method.kind}. Role: ${method.role}${method.raised === undefined ? '' : `, or ${method.raised.role} ${method.raised.words}`}.${method.legalIn === undefined ? '' : ` Legal when ${method.legalIn}.`}`,
    params.length === 0
      ? 'No params.'
      : table(
          ['param', 'type', '', ''],
          params.map(({ name: param, type, need, description }) => [`\`${param}\``, type, need, description]),
        ),
    method.kind === 'operation' ? 'Result: `operation`, as in operation.get.' : resultTable(results),
  ].join('\n\n');
}

function resultTable(rows: ReturnType<typeof propertyRows>): string {
  return table(
    ['result', 'type', ''],
    rows.map(({ name, type, description }) => [`\`${name}\``, type, description]),
  );
}

function messageSection(title: string, schema: object): string {
  const rows = propertyRows(schema as SchemaNode).filter(({ name }) => !name.startsWith('inventory.'));
  return [
    `### ${title}`,
    table(
      ['field', 'type', '', ''],
      rows.map(({ name, type, need, description }) => [`\`${name}\``, type, need, description]),
    ),
  ].join('\n\n');
}
