/** docs/protocol.md: the wire, and every method of the method table. */
import { AGENT_CLAUSES } from '../../src/conformance/agent/clauses.ts';
import type { Clause } from '../../src/conformance/clause.ts';
import { SCHEDULER_CLAUSES } from '../../src/conformance/scheduler/clauses.ts';
import { METHODS, type Method } from '../../src/model/methods.ts';
import { ENROL_PATH } from '../../src/model/enrolment.ts';
import { MESSAGE_BYTES_LIMIT, REQUESTS_IN_FLIGHT_LIMIT } from '../../src/model/link.ts';
import { AGENT_PATH, AGENT_MESSAGES, SCHEDULER_MESSAGES, SUBPROTOCOL } from '../../src/model/wire.ts';
import { HelloResult } from '../../src/model/wire.ts';
import { propertyRows, type SchemaNode, table } from './schema.ts';

export function protocolPage(): string {
  return [
    '<!-- Generated from src/model by `npm run docs`; do not edit. -->',
    '# The protocol',
    intro,
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

const kit = `What each side owes the other, as \`berth-conformance\` tries it: for those who write an agent or a scheduler of their own.
It plays the other side of the link, and exits with 1 where a clause is broken that must hold.

\`\`\`
berth-conformance agent --token-file token --changes                        # then let the agent connect to ws://127.0.0.1:7681
berth-conformance scheduler --url ws://127.0.0.1:7680 --token-file token    # one for trials: the nodes that are played stay known to it
\`\`\`

\`--only ID\` tries one clause, \`--json\` prints \`{ side, conforms, clauses: [{ id, level, text, verdict, why }] }\`. Without \`--changes\`
an agent is asked for no change. A clause that did not come up is \`untried\`.`;

function clauseSection<B>(who: string, clauses: readonly Clause<B>[]): string {
  const rows = clauses.map(({ id, level, text }) => `| \`${id}\` | ${level} | ${text} |`);
  return [`### ${who} …`, ['| clause |  |  |', '| --- | --- | --- |', ...rows].join('\n')].join('\n\n');
}

const intro = `An agent and a scheduler speak JSON-RPC 2.0 in text frames of a WebSocket, subprotocol \`${SUBPROTOCOL}\`. The agent dials
out to \`${AGENT_PATH}\` and shows its certificate, or a bearer token. Its first message is the request \`hello\`; after the answer it sends events
from the one after \`lastSeq\` on, and a heartbeat every \`heartbeatSeconds\`. The scheduler acknowledges events with \`ack\`
once they are durable on its side, and calls any method below as a request, as far as the role that the node gives it goes.
At two thirds of the life of its certificate the agent asks \`identity.renew\`, and connects anew by what it gets.

The same methods are served on the local socket as \`POST /v1/<method>\` with the params as JSON body, the result as the
answer, and \`{ "error": { "code", "message", "hint"?, "details"? } }\` with a fitting HTTP status. \`GET /v1/events?after=N\`
follows the events as JSON lines. The full socket has the role \`admin\`, the read-only one beside it \`observe\`.

A node that has no certificate yet exchanges a token for one: \`POST ${ENROL_PATH}\` at the scheduler, over TLS to the authority
whose digest is in the token ([ADR 0028](adr/0028-enrolment.md)).

- An operation answers \`{ "operation": … }\` as soon as it is in the journal; \`operation.get\` with \`waitSeconds\` waits for its end.
- \`key\` makes a repeat safe: the same key with the same params answers with the first operation, also after a restart.
- \`generation\` and \`epoch\` fence: what is behind the current value is refused with \`STALE\`.
- Unknown fields are errors. A message has at most ${MESSAGE_BYTES_LIMIT} bytes; at most ${REQUESTS_IN_FLIGHT_LIMIT} requests are under way on a link.
- Errors are those of [errors.md](errors.md); their body is in \`error.data\`.
- Versions are additive: a new field of an answer or event, a new method, a new optional param. A reader ignores unknown
  fields of answers and events.`;

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
