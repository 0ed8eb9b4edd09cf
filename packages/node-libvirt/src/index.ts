/**
 * node-libvirt: a libvirt client in TypeScript.
 *
 * `connect` gives a Connection; everything else follows from it. The VIR_* numbers are under `constants`.
 */
export * as constants from './constants.gen.ts';
export type { BackoffOptions } from './backoff.ts';
export { type ConnectOptions, connect } from './connect.ts';
export type { Connection, DomainStats, NodeInfo, RoleCallOptions } from './connection.ts';
export type { BlockInfo, Domain, DomainInfo } from './domain.ts';
export {
  LibvirtError,
  LibvirtTransportError,
  LibvirtUnsupportedError,
  LibvirtUsageError,
  type TransportErrorKind,
} from './errors.ts';
export { DOMAIN_EVENT_KINDS, type DomainEvent, type DomainEventKind, type DomainRef } from './event-kinds.ts';
export { EVENT_BUFFER_MAX, type StreamedEvent } from './event-stream.ts';
export { type DomainEventListener, type Gap, LISTENERS_MAX } from './events.ts';
export { type ConnectionState, type Role, type StateListener, STREAMS_MAX } from './pool.ts';
export type { ArgsOf, ProcedureName, ReplyOf } from './protocol/procedures.ts';
export { PROTOCOL_VERSION } from './protocol/schema.gen.ts';
export type * as protocol from './protocol/types.gen.ts';
export { type CallOptions, IN_FLIGHT_MAX, WAITING_MAX } from './rpc/calls.ts';
export type { KeepaliveOptions } from './rpc/keepalive.ts';
export type { LibvirtStream } from './rpc/stream.ts';
export {
  type TypedParam,
  type TypedParamType,
  type TypedValue,
  typedParamsFromObject,
  typedParamsToObject,
} from './typed-params.ts';
