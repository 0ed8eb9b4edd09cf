/** What docs/protocol.md says about the link in sentences; numbers come from where they hold. */
import { ENROL_PATH } from '../../src/model/enrolment.ts';
import {
  COMPRESSION,
  EVENTS_IN_FLIGHT_LIMIT,
  FEATURES,
  MESSAGE_BYTES_LIMIT,
  PROTOCOL_VERSION,
  REQUESTS_IN_FLIGHT_LIMIT,
  SNAPSHOT_KINDS,
} from '../../src/model/link.ts';
import { PATCH_LIMIT } from '../../src/model/json-patch.ts';
import { JSON_DEPTH_LIMIT } from '../../src/model/json.ts';
import { AGENT_PATH, SUBPROTOCOL } from '../../src/model/wire.ts';
import { CLOSE } from '../../src/scheduler/gateway/close-codes.ts';
import { table } from './schema.ts';

export const intro = `An agent and a scheduler speak JSON-RPC 2.0 in text frames of a WebSocket, subprotocol \`${SUBPROTOCOL}\`; this is version ${PROTOCOL_VERSION}
of it. The agent dials out to \`${AGENT_PATH}\` and shows its certificate, or a bearer token. Its first message is the request \`hello\`; after the
answer it sends events from the one after \`lastSeq\` on, and a heartbeat every \`heartbeatSeconds\`. The scheduler acknowledges events with
\`ack\` once they are durable on its side, and calls any method below as a request, as far as the role that the node gives it goes.
At two thirds of the life of its certificate the agent asks \`identity.renew\`, and connects anew by what it gets.

The messages are in [schemas/](schemas/) as JSON Schema, the methods in [openrpc.json](openrpc.json) as OpenRPC.

The same methods are served on the local socket as \`POST /v1/<method>\` with the params as JSON body, the result as the
answer, and \`{ "error": { "code", "message", "hint"?, "details"? } }\` with a fitting HTTP status. \`GET /v1/events?after=N\`
follows the events as JSON lines. The full socket has the role \`admin\`, the read-only one beside it \`observe\`.

A node that has no certificate yet exchanges a token for one: \`POST ${ENROL_PATH}\` at the scheduler, over TLS to the authority
whose digest is in the token ([ADR 0028](adr/0028-enrolment.md)).

- An operation answers \`{ "operation": … }\` as soon as it is in the journal; \`operation.get\` with \`waitSeconds\` waits for its end.
- \`key\` makes a repeat safe: the same key with the same params answers with the first operation, also after a restart.
- \`generation\` and \`epoch\` fence: what is behind the current value is refused with \`STALE\`.
- Errors are those of [errors.md](errors.md); their body is in \`error.data\`.`;

export const agreement = `## What both sides agree on

The hello has a \`link\` with version, features, limits and the numbering of the agent's events; the answer has one with the features that
both know, and the scheduler's limits. A scheduler that leaves \`link\` out of its answer is of version 1.0: then none of the
features are in use. An agent that leaves it out is answered without. A scheduler that refuses the \`link\` itself (INVALID_ARGUMENT) is told a
hello without it at the next try.

| feature | what may be sent then |
| --- | --- |
| \`${FEATURES[0]}\` | \`revision\` and \`delta\` in hello and heartbeat, \`revision\` in ack |
| \`${FEATURES[1]}\` | \`after\` in an event |
| \`${FEATURES[2]}\` | \`snapshot\` |

**Versions only add.** What a side asks for (params, and the messages themselves) is read strictly: unknown fields are errors, since they would
not be heeded. So nothing new is sent there but to who has named its feature; in \`link\` alone unknown fields and features are passed over. What a
side tells of itself (the inventory, results, objects and events) may have fields, and types of events, that the other does not know: they are passed
over. Recordings of each version are played against the other side of now, in \`test/protocol\`.`;

export const events = `## Events, acknowledgements, gaps

Events have numbers that grow. They are kept until they are acknowledged, and sent again from the one after \`lastSeq\` of the next
hello's answer; who gets one twice ignores it. At most \`limits.events\` of the scheduler, and never more than ${EVENTS_IN_FLIGHT_LIMIT}, are unacknowledged on
a link. An ack of what was not sent is ignored.

While the scheduler is away for long, events of health, inventory and the progress of operations are taken together: the newest of each subject is kept. The
numbers between are missing then, and the next event says in \`after\` which one was before it. A number that is missing without that is a gap.

Where events are gone that the scheduler has not (\`outbox.keptAfter\` is beyond its \`lastSeq\`) the agent sends a \`snapshot\` in their place: all
objects, in parts, in the order ${SNAPSHOT_KINDS.map((kind) => `\`${kind}\``).join(', ')}; each kind has a part at least. It stands for all events up to its \`seq\`, which is
acknowledged like an event once the last part is stored. An object that it lacks is not there any more. Events go on after \`seq\`.

Numbers are the same events only under the same \`outbox.id\`. The agent takes a new one when its database was lost or put back from a copy; the scheduler forgets
then what it has, and answers \`lastSeq\` 0. \`link.lastAt\` of the answer is the time of the event \`lastSeq\` as the scheduler has it: where the agent has
another event of this number, it takes a new numbering, and connects anew. A \`lastSeq\` beyond the agent's newest, under the same numbering, makes the agent go on after it.`;

export const inventory = `## The inventory, and heartbeats

With \`deltas\` every state of the inventory has a \`revision\`, a word without a meaning. The hello tells it whole, and its answer acknowledges it. A
heartbeat has the \`revision\` and nothing else when nothing has changed; else a \`delta\`: a JSON Patch (RFC 6902; \`add\`, \`replace\`, \`remove\`; at most
${PATCH_LIMIT}) against the acknowledged revision \`base\`. The scheduler answers \`ack\` with the revision that it holds now. Until then the agent tells no further
change: what changes meanwhile comes in one. \`ack\` with \`null\` asks for the whole, and so does silence, after three heartbeats.

The hello of the next link has a \`delta\` in place of the inventory, where one was acknowledged before. A scheduler that does not hold the base answers \`STALE\`,
and the agent says the hello again on the same link, whole. \`instances\` and \`lastSeq\` of a heartbeat are left out while they are the same.`;

export const limits = `## Limits, and the life of a link

- A message has at most ${MESSAGE_BYTES_LIMIT} bytes, unpacked, and JSON of at most ${JSON_DEPTH_LIMIT} levels; at most ${REQUESTS_IN_FLIGHT_LIMIT} requests are unanswered on a link. Smaller limits of the other side,
  in its \`link\`, are kept: an answer that is larger is \`LIMIT_REACHED\`, an event that is larger comes with \`data.leftOutBytes\` in place of its data.
- A request of the scheduler is answered within two minutes, or with \`DEADLINE_EXCEEDED\`; one of the agent is given up after 30 s.
- permessage-deflate is used where both offer it, without context takeover, for messages of ${COMPRESSION.threshold} bytes and more; the window is 2^${COMPRESSION.serverMaxWindowBits} bytes.
- Who does not read what it was sent is not listened to until it does, and gets nothing that can wait. Beyond ${(2 * MESSAGE_BYTES_LIMIT) / 1024 ** 2} MiB, or when it gives no sign of life
  meanwhile, its link ends.
- The agent pings at least every 10 s, and drops a link on which it has heard nothing for three pings. The scheduler pings an agent of which it has heard nothing for
  12 s, pings included, and drops it after 20 s; sooner where heartbeats are more often. The answer to hello says how often that is. Berth's own scheduler asks for one
  every 5 s, or what its operator wishes, and for fewer where all nodes together would send over 1,000 a second.
- After a failure the agent waits a random time below a limit that doubles, from 0.5 s to 30 s, and never dials more than ten times a minute. It tries the addresses of
  its configuration in turn, and goes back to the first when that answers.
- An agent may say in its upgrade how many seconds it waits for the answer: \`Prefer: wait=30\` (RFC 7240, 4.3); one that does not is taken to wait for ten. A scheduler that has
  many before it answers later, up to that time, and over TLS may go on with the handshake later, too. Who gives up before takes nobody's turn.
- A scheduler that has to turn agents away for the moment answers 503 with \`Retry-After\`, and \`details.retryAfterMs\` in its error; the agent keeps to it, up to five minutes.
  The same \`details\` may be in the refusal of a hello.

The scheduler closes a link with one of these codes:

${table(
  ['code', 'why'],
  Object.values(CLOSE).map(({ code, reason }) => [String(code), reason]),
)}`;

export const kit = `What each side owes the other, as \`berth-conformance\` tries it: for those who write an agent or a scheduler of their own.
It plays the other side of the link, and exits with 1 where a clause is broken that must hold.

\`\`\`
berth-conformance agent --token-file token --changes                        # then let the agent connect to ws://127.0.0.1:7682
berth-conformance scheduler --url ws://127.0.0.1:7680 --token-file token    # one for trials: the nodes that are played stay known to it
\`\`\`

\`--only ID\` tries one clause, \`--json\` prints \`{ side, conforms, clauses: [{ id, level, text, verdict, why }] }\`. Without \`--changes\`
an agent is asked for no change. A clause that did not come up is \`untried\`.`;
