/**
 * Instances as callers of the HTTP API see them. Pure.
 *
 * What a node said while it was there is not said of it while it is lost: its instances' power is `unknown`
 * then, since and because of the loss.
 */

import { Id, Name, nullable, strict, Timestamp } from '../model/common.ts';
import { Instance, InstanceSpec, Power, withoutSecrets } from '../model/instance.ts';
import { ErrorBodySchema } from '../model/operation.ts';
import { type Static, Type } from '../model/schema.ts';
import { PlacementRequest } from './placement/request.ts';
import { INSTANCE_PHASES, type InstanceRow } from './store/instances.ts';
import type { NodeBrief } from './store/nodes.ts';

export const InstanceView = strict({
  id: Id,
  name: Name,
  node: Id,
  hostname: Type.String({ description: 'of the node' }),
  phase: Type.Enum([...INSTANCE_PHASES], {
    description:
      'dispatching: the node has not answered yet; accepted: it has an operation for it; ' +
      'present: it has told of it; failed: it came to nothing, see error',
  }),
  power: nullable(Power),
  operation: nullable(Id),
  error: nullable(ErrorBodySchema),
  spec: InstanceSpec,
  placement: PlacementRequest,
  instance: nullable(Instance),
  createdAt: Timestamp,
});
export type InstanceView = Static<typeof InstanceView>;

export function viewOf(row: InstanceRow, node: NodeBrief): InstanceView {
  const power = row.told === null ? null : powerOf(row.told.power, node);
  return {
    id: row.id,
    name: row.name,
    node: node.id,
    hostname: node.hostname,
    phase: row.phase,
    power,
    operation: row.operationId,
    error: row.error,
    spec: withoutSecrets(row.spec),
    placement: row.placement,
    instance: row.told === null || power === null ? null : { ...row.told, power },
    createdAt: row.createdAt,
  };
}

function powerOf(told: Static<typeof Power>, node: NodeBrief): Static<typeof Power> {
  if (node.state === 'ready') return told;
  return { state: 'unknown', since: node.since, reason: `node ${node.hostname} is lost: ${node.reason}` };
}
