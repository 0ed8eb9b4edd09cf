/**
 * Events: numbered facts about what changed, written in the transaction of the change itself.
 *
 * A consumer keeps the last `seq` that it has dealt with and asks for what came after.
 */

import { Id, nullable, strict, Timestamp } from './common.ts';
import { OBJECT_KINDS } from './operation.ts';
import { type Static, Type } from './schema.ts';

export const EVENT_TYPES = [
  'instance.created',
  'instance.changed',
  'instance.deleted',
  'instance.panicked',
  'instance.watchdog',
  'instance.restarts-exhausted',
  'instance.disowned',
  'instance.drifted',
  'instance.base-damaged',
  'instance.nvram-lost',
  'snapshot.created',
  'snapshot.reverted',
  'snapshot.deleted',
  'snapshot.memory-lost',
  'volume.created',
  'volume.changed',
  'volume.attached',
  'volume.detached',
  'volume.deleted',
  'volume.wiped',
  'volume.exported',
  'share.created',
  'share.changed',
  'share.attached',
  'share.detached',
  'share.deleted',
  'image.created',
  'image.changed',
  'image.damaged',
  'image.deleted',
  'backup.created',
  'backup.verified',
  'backup.recreated',
  'backup.deleted',
  'network.created',
  'network.deleted',
  'usage.recorded',
  'usage.dropped',
  'reservation.created',
  'reservation.ended',
  'operation.changed',
  'hypervisor.changed',
  'inventory.changed',
  'health.changed',
  'node.leaks',
  'node.collected',
  'node.recovered',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

export const BerthEvent = strict({
  seq: Type.Integer({ minimum: 1, description: 'grows with each event of this node' }),
  type: Type.Enum([...EVENT_TYPES]),
  at: Timestamp,
  target: nullable(strict({ kind: Type.Enum([...OBJECT_KINDS, 'operation']), id: Id, name: Type.String() })),
  data: Type.Record(Type.String(), Type.Unknown()),
  after: Type.Optional(
    Type.Integer({ minimum: 0, description: 'the event before it; what was between is told by later ones' }),
  ),
});
export type BerthEvent = Static<typeof BerthEvent>;
