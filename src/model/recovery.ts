/**
 * Recovery of the state as callers see it: what was, or would be, taken from the host into the database.
 */
import { Id, nullable, strict } from './common.ts';
import { type Static, Type } from './schema.ts';

export const RECOVERED_KINDS = ['instance', 'volume', 'share', 'image', 'network'] as const;
export type RecoveredKind = (typeof RECOVERED_KINDS)[number];

export const RecoveredObject = strict({
  kind: Type.Enum([...RECOVERED_KINDS]),
  id: Id,
  name: Type.String(),
  note: nullable(Type.String({ description: 'what an operator should know of it; null where all is well' })),
});
export type RecoveredObject = Static<typeof RecoveredObject>;

export const LeftOutObject = strict({
  kind: Type.Enum([...RECOVERED_KINDS]),
  id: Id,
  name: Type.String({ description: 'as the host calls it' }),
  reason: Type.String(),
});
export type LeftOutObject = Static<typeof LeftOutObject>;

export const RecoveryReport = strict({
  dryRun: Type.Boolean({ description: 'nothing was written' }),
  added: Type.Array(RecoveredObject),
  leftOut: Type.Array(LeftOutObject, { description: 'not touched, and not taken into the database' }),
});
export type RecoveryReport = Static<typeof RecoveryReport>;
