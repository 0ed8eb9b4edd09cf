/**
 * The method table: everything that can be asked of an agent, once.
 *
 * The WebSocket link, the local socket, the CLI, docs/protocol.md and docs/openrpc.json are made from it.
 * A `read` answers from memory and the store (the few that look at the host say so in their summary and
 * have a deadline); an `operation` answers `{ operation }` as soon as the operation is in the journal.
 */
import type { Method } from './method.ts';
import { AUDIT_METHODS } from './methods/audit.ts';
import { BACKUP_METHODS } from './methods/backups.ts';
import { IMAGE_METHODS } from './methods/images.ts';
import { INSTANCE_METHODS } from './methods/instances.ts';
import { NETWORK_METHODS } from './methods/networks.ts';
import { NODE_METHODS } from './methods/node.ts';
import { OPERATION_METHODS } from './methods/operations.ts';
import { POOL_METHODS } from './methods/pools.ts';
import { RESERVATION_METHODS } from './methods/reservations.ts';
import { SNAPSHOT_METHODS } from './methods/snapshots.ts';
import { SHARE_METHODS } from './methods/shares.ts';
import { USAGE_METHODS } from './methods/usage.ts';
import { VOLUME_METHODS } from './methods/volumes.ts';
import type { Static } from './schema.ts';

export { isChange, type Method, ROLES, type Role, roleAllows } from './method.ts';

export const METHODS = {
  ...NODE_METHODS,
  ...RESERVATION_METHODS,
  ...INSTANCE_METHODS,
  ...IMAGE_METHODS,
  ...POOL_METHODS,
  ...VOLUME_METHODS,
  ...SNAPSHOT_METHODS,
  ...SHARE_METHODS,
  ...BACKUP_METHODS,
  ...NETWORK_METHODS,
  ...USAGE_METHODS,
  ...OPERATION_METHODS,
  ...AUDIT_METHODS,
} as const satisfies Record<string, Method>;

export type MethodName = keyof typeof METHODS;
export type Params<M extends MethodName> = Static<(typeof METHODS)[M]['params']>;
export type Result<M extends MethodName> = Static<(typeof METHODS)[M]['result']>;
export type OperationMethod = {
  [M in MethodName]: (typeof METHODS)[M]['kind'] extends 'operation' ? M : never;
}[MethodName];

export const METHOD_NAMES = Object.keys(METHODS) as MethodName[];

export function isMethodName(name: string): name is MethodName {
  return Object.hasOwn(METHODS, name);
}
