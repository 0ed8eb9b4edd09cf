/**
 * What gateways and the scheduler say to each other on the bus.
 *
 *   gateway ─▶ berth.owner             open, frame, pong, closed of a link; alive of the gateway
 *   owner   ─▶ berth.gateway.<id>      frame, ping, pause, resume, close, terminate of a link
 *
 * A message is a line of JSON and, of a frame, its bytes. Those of one link are numbered, each way; a frame that is longer
 * than what NATS carries goes in parts. A gap, a message that does not fit, or an answer that does not come ends the link:
 * then both sides meet again by the agent's next hello, as after any broken link.
 */
import { Id, nullable, strict } from '../../model/common.ts';
import { AgentError } from '../../model/errors.ts';
import { parseJson } from '../../model/json.ts';
import { ErrorBodySchema } from '../../model/operation.ts';
import { type Static, type TSchema, Type } from '../../model/schema.ts';
import { parse } from '../../model/validate.ts';

export const OWNER = 'berth.owner';

export function subjectOf(gateway: string): string {
  return `berth.gateway.${gateway}`;
}

/** Bytes of a frame in one message: half of NATS's default limit of 1 MiB. */
export const PART_BYTES = 512 * 1024;
/** Links of one gateway: `alive` names them all in one message. */
export const LINKS_LIMIT = 2_000;

const OfLink = { gateway: Id, link: Id, number: Type.Integer({ minimum: 1 }) };
const Reason = Type.String({ maxLength: 200 });
const Frame = strict({ kind: Type.Literal('frame'), ...OfLink, more: Type.Boolean() });

export const ToOwner = Type.Union([
  strict({
    kind: Type.Literal('open'),
    ...OfLink,
    proven: nullable(strict({ nodeId: Id, serial: Type.String({ pattern: '^[0-9A-F]{1,64}$' }) })),
  }),
  Frame,
  strict({ kind: Type.Literal('pong'), ...OfLink }),
  strict({ kind: Type.Literal('closed'), ...OfLink, code: Type.Integer(), reason: Reason }),
  strict({
    kind: Type.Literal('alive'),
    gateway: Id,
    name: Type.String({ maxLength: 253 }),
    links: Type.Array(Id, { maxItems: LINKS_LIMIT }),
  }),
]);
export type ToOwner = Static<typeof ToOwner>;

export const ToGateway = Type.Union([
  Frame,
  strict({ kind: Type.Enum(['ping', 'pause', 'resume', 'terminate']), ...OfLink }),
  strict({ kind: Type.Literal('close'), ...OfLink, code: Type.Integer(), reason: Reason }),
]);
export type ToGateway = Static<typeof ToGateway>;

/** Answer to any message: nothing, or why not; to `alive`, which run of the owner it is and which links it has. */
export const BusAnswer = strict({
  error: Type.Optional(ErrorBodySchema),
  run: Type.Optional(Id),
  links: Type.Optional(Type.Array(Id, { maxItems: LINKS_LIMIT })),
});
export type BusAnswer = Static<typeof BusAnswer>;

export function encode(head: object, bytes: Uint8Array = new Uint8Array()): Uint8Array {
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), bytes]);
}

/** @throws {AgentError} INVALID_ARGUMENT: it does not fit. */
export function decode<T>(schema: TSchema, data: Uint8Array): { head: T; bytes: Buffer } {
  const all = Buffer.from(data);
  const end = all.indexOf(0x0a);
  if (end < 0) throw new AgentError('INVALID_ARGUMENT', 'A message of the bus has no head');
  const head = parse(schema, parseJson(all.subarray(0, end).toString()), 'message of the bus') as T;
  return { head, bytes: all.subarray(end + 1) };
}
