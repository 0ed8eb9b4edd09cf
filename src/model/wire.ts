/**
 * The wire between an agent and a scheduler: JSON-RPC 2.0 in text frames of a WebSocket, subprotocol `berth.v1`.
 *
 *   agent                                    scheduler
 *     │── GET /v1/agent, Upgrade ──────────────▶│   shows the node's certificate, or a bearer token
 *     │── request  hello ──────────────────────▶│   who the agent is and what it has; answered with the epoch,
 *     │◀───────────── response { epoch, lastSeq }│   the last event the scheduler has, and what is not its own
 *     │── notify   snapshot {…}  (after a gap) ─▶│   where events after lastSeq are gone
 *     │── notify   event  {…}  (after lastSeq) ─▶│
 *     │◀───────────── notify   ack { seq } ──────│
 *     │── notify   heartbeat { … } ─────────────▶│   every few seconds, from memory: what has changed
 *     │◀───────────── notify   ack { revision } ─│
 *     │◀───────────── request  instance.create ──│   any method of the method table
 *     │── response { operation } ──────────────▶│
 *     │── request  identity.renew ─────────────▶│   at two thirds of the life of the certificate
 *
 * A message that is malformed, too large or nested too deep is answered with an error where it has an id,
 * and the connection is closed where it has none that could be read.
 */

import { Id, nullable, strict, Timestamp } from './common.ts';
import { AgentError, ERROR_CODES, type ErrorBody, type ErrorCode } from './errors.ts';
import { RenewRequest } from './enrolment.ts';
import { BerthEvent } from './event.ts';
import { parseJson } from './json.ts';
import { InventoryDelta, LinkOffer, LinkTerms, Revision, Snapshot } from './link.ts';
import { Inventory } from './node.ts';
import { ErrorBodySchema } from './operation.ts';
import { type Static, Type } from './schema.ts';
import { told } from './told.ts';
import { findFault } from './validate.ts';

export const SUBPROTOCOL = 'berth.v1';
export const AGENT_PATH = '/v1/agent';

/** Instances that a hello names, and its answer disowns: many times what a host can run. */
export const HELLO_INSTANCES_LIMIT = 20_000;

const RequestId = Type.Union([Type.String({ maxLength: 128 }), Type.Integer()]);

export const RpcRequest = strict({
  jsonrpc: Type.Literal('2.0'),
  id: Type.Optional(RequestId),
  method: Type.String({ maxLength: 64 }),
  params: Type.Optional(Type.Unknown()),
});
export type RpcRequest = Static<typeof RpcRequest>;

export const RpcError = strict({
  code: Type.Integer(),
  message: Type.String(),
  data: Type.Optional(Type.Unknown()),
});

export const RpcResponse = strict({
  jsonrpc: Type.Literal('2.0'),
  id: nullable(RequestId),
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(RpcError),
});
export type RpcResponse = Static<typeof RpcResponse>;

/** Whole, or as a delta where the scheduler has acknowledged a revision before; with `deltas` it has a revision. */
const InventoryTold = {
  inventory: Type.Optional(told(Inventory)),
  revision: Type.Optional(Revision),
  delta: Type.Optional(InventoryDelta),
};

export const Hello = strict({
  nodeId: Id,
  version: Type.String({ description: 'of the agent' }),
  ...InventoryTold,
  lastSeq: Type.Integer({ minimum: 0, description: 'number of the newest event the agent has' }),
  instances: Type.Optional(
    Type.Array(Id, { maxItems: HELLO_INSTANCES_LIMIT, description: 'the instances that the agent has' }),
  ),
  lastContactAt: Type.Optional(
    nullable(Timestamp, 'when it last heard of this scheduler, as far as it knows; null for never'),
  ),
  link: Type.Optional(LinkOffer),
});
export type Hello = Static<typeof Hello>;

export const HelloResult = strict({
  epoch: Type.Integer({ minimum: 0 }),
  lastSeq: Type.Integer({
    minimum: 0,
    description: 'number of the newest event the scheduler has dealt with',
  }),
  heartbeatSeconds: Type.Integer({ minimum: 1, maximum: 300 }),
  disowned: Type.Optional(
    Type.Array(Id, {
      maxItems: HELLO_INSTANCES_LIMIT,
      description: 'instances of the hello that are not of this node any more: it starts none of them',
    }),
  ),
  link: Type.Optional(LinkTerms),
});
export type HelloResult = Static<typeof HelloResult>;

/** What has not changed since it was told is left out; without `deltas` the counts are always there. */
export const Heartbeat = strict({
  ...InventoryTold,
  instances: Type.Optional(Type.Integer({ description: 'how many there are' })),
  lastSeq: Type.Optional(Type.Integer({ minimum: 0 })),
});
export type Heartbeat = Static<typeof Heartbeat>;

export const Ack = strict({
  seq: Type.Optional(
    Type.Integer({ minimum: 0, description: 'all events up to this one are durable at the scheduler' }),
  ),
  revision: Type.Optional(
    nullable(Revision, 'of the inventory that the scheduler holds now; null to be told the whole of it'),
  ),
});
export type Ack = Static<typeof Ack>;

/** Messages of each side besides the method table; hello and identity.renew are requests, the others notifications. */
export const AGENT_MESSAGES = {
  hello: Hello,
  event: BerthEvent,
  snapshot: Snapshot,
  heartbeat: Heartbeat,
  'identity.renew': RenewRequest,
} as const;
export const SCHEDULER_MESSAGES = { ack: Ack } as const;

/** JSON-RPC's own codes for what never reached a method. */
const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
const CODES = Object.keys(ERROR_CODES) as ErrorCode[];

export function rpcErrorOf(error: AgentError): Static<typeof RpcError> {
  const body = error.toBody();
  return { code: -32000 - CODES.indexOf(body.code), message: body.message, data: body };
}

/** The AgentError that a peer's error object stands for. */
export function agentErrorOf(error: Static<typeof RpcError>): AgentError {
  const body = findFault(ErrorBodySchema, error.data) === null ? (error.data as ErrorBody) : undefined;
  const code =
    body?.code ??
    CODES[-32000 - error.code] ??
    (error.code === METHOD_NOT_FOUND ? 'UNSUPPORTED' : 'INTERNAL');
  const known = Object.hasOwn(ERROR_CODES, code) ? code : 'INTERNAL';
  return AgentError.fromBody({ ...body, code: known, message: error.message });
}

export type Incoming =
  | { type: 'request'; request: RpcRequest }
  | { type: 'response'; response: RpcResponse }
  | { type: 'malformed'; reply: RpcResponse };

/** Sorts one text frame; never throws. A malformed request keeps its id where that can be read. */
export function readMessage(text: string): Incoming {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    return malformed(PARSE_ERROR, AgentError.from(error).message, null);
  }
  if (typeof value === 'object' && value !== null && 'method' in value) {
    if (findFault(RpcRequest, value) === null) return { type: 'request', request: value as RpcRequest };
    return malformed(INVALID_REQUEST, 'Not a JSON-RPC 2.0 request', idOf(value));
  }
  if (findFault(RpcResponse, value) === null) return { type: 'response', response: value as RpcResponse };
  return malformed(INVALID_REQUEST, 'Not a JSON-RPC 2.0 message', null);
}

function malformed(code: number, message: string, id: RpcResponse['id']): Incoming {
  return { type: 'malformed', reply: { jsonrpc: '2.0', id, error: { code, message } } };
}

function idOf(request: object): RpcResponse['id'] {
  const id = (request as { id?: unknown }).id;
  return findFault(RequestId, id) === null ? (id as RpcResponse['id']) : null;
}
