/**
 * node-libvirt: a libvirt client in TypeScript.
 *
 * `connect` gives a Connection; everything else follows from it. The VIR_* numbers are under `constants`.
 */
export * as constants from './constants.gen.ts';
export type { Credentials, CredentialsOption, CredentialsRequest } from './auth/credentials.ts';
export type { BackoffOptions } from './backoff.ts';
export { type ConnectOptions, connect } from './connect.ts';
export type { Connection, DomainStats } from './connection.ts';
export type { Domain } from './domain.ts';
export type { CallOptions, RoleCallOptions } from './api/caller.ts';
export type { DomainCheckpoint } from './api/domain-checkpoint.gen.ts';
export type { DomainSnapshot } from './api/domain-snapshot.gen.ts';
export type { Interface } from './api/interface.gen.ts';
export type { Network } from './network.ts';
export type { NetworkPort } from './api/network-port.gen.ts';
export type { NodeDevice } from './api/node-device.gen.ts';
export type { NwFilter } from './api/nw-filter.gen.ts';
export type { NwFilterBinding } from './api/nw-filter-binding.gen.ts';
export type { Objects } from './api/objects.gen.ts';
export type { Secret } from './api/secret.gen.ts';
export type { StoragePool } from './api/storage-pool.gen.ts';
export {
  type ErrorReply,
  LibvirtError,
  LibvirtTransportError,
  LibvirtUnsupportedError,
  LibvirtUsageError,
  type TransportErrorKind,
} from './errors.ts';
export { EARLY_MAX } from './events/early-messages.ts';
export {
  EVENT_BUFFER_MAX,
  type EventQueue,
  type QueuedEvent,
  type QueueOptions,
} from './events/event-queue.ts';
export { type Gap, LISTENERS_MAX, type LostEvents, type StopListening } from './events/events.ts';
export {
  EVENT_FAMILIES,
  type EventFamily,
  type EventFilter,
  type EventKind,
  type EventThings,
  eventKinds,
  type LibvirtEvent,
  type MonitorFilter,
} from './events/families.ts';
export type { MigrateOptions } from './migration/migrate.ts';
export { type ConnectionState, type Role, type StateListener, STREAMS_MAX } from './pool.ts';
export type { ArgsOf, ProcedureName, ReplyOf } from './protocol/procedures.ts';
export { PROTOCOL_VERSION } from './protocol/schema.gen.ts';
export type * as protocol from './protocol/types.gen.ts';
export { IN_FLIGHT_MAX, WAITING_MAX } from './rpc/calls.ts';
export type { KeepaliveOptions } from './rpc/keepalive.ts';
export type { TakeSegment } from './rpc/segment-consumer.ts';
export type { LibvirtStream, StreamSegment } from './rpc/stream.ts';
export { SESSIONS_MAX } from './session.ts';
export type { ConsumeOptions, StorageVolume } from './storage-volume.ts';
export type { SshOptions } from './transport/ssh-command.ts';
export type { HostKeyPolicy } from './transport/endpoint.ts';
export type { TlsOptions } from './transport/tls-files.ts';
export {
  type ExplicitValue,
  type TypedParam,
  type TypedParams,
  type TypedParamsInput,
  type TypedParamType,
  type TypedValue,
  typedParamsFromObject,
  typedParamsToObject,
} from './typed-params.ts';
export type { TakePart, VolumePart } from './volume-parts.ts';
