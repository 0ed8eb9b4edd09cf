/**
 * Reservations: room of a node that is kept free for a while, before there is an instance that takes it.
 */
import { Id, Name, nullable, strict, Timestamp, timestampOf } from './common.ts';
import { DISK_GIB_MAX } from './instance.ts';
import { type Static, Type } from './schema.ts';

/** Reservations of one node at once: many times the instances that a scheduler places on it in a minute. */
export const RESERVATIONS_MAX = 1_000;
/** Longest life of one, seconds: what is kept for longer is better taken by an instance. */
const SECONDS_MAX = 7 * 86_400;
/** Pools that one reservation is of. */
const POOLS_MAX = 16;
/** Beyond any host; what a host has decides. */
const VCPUS_MAX = 65_535;
const MEMORY_MIB_MAX = 64 * 1024 * 1024;

export const ReservedResources = strict({
  VCPU: Type.Optional(Type.Integer({ minimum: 1, maximum: VCPUS_MAX })),
  MEMORY_MB: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MEMORY_MIB_MAX,
      description: 'MiB, what QEMU takes for itself included',
    }),
  ),
  DISK_GB: Type.Optional(
    Type.Array(
      strict({ pool: Name, gib: Type.Integer({ minimum: 1, maximum: DISK_GIB_MAX, description: 'GiB' }) }),
      { minItems: 1, maxItems: POOLS_MAX, description: 'of each pool once' },
    ),
  ),
});
export type ReservedResources = Static<typeof ReservedResources>;

export const ReservationSeconds = Type.Integer({
  minimum: 1,
  maximum: SECONDS_MAX,
  description: 'seconds until its room is free again, unless it is consumed before',
});

export const ReservationNote = Type.String({
  maxLength: 256,
  pattern: '^[^\\x00-\\x1f\\x7f]*$',
  description: 'for people: what it is for',
});

export const Reservation = strict({
  id: Id,
  resources: ReservedResources,
  note: Type.String(),
  createdAt: Timestamp,
  expiresAt: timestampOf('when its room is free again, by the clock of the node as it is set now'),
  instanceId: nullable(Id, 'that it is consumed by, until the create has ended; its own room is free then'),
});
export type Reservation = Static<typeof Reservation>;
