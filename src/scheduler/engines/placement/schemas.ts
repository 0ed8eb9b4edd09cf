/**
 * What of Placement's answers is read here. The service is another program: what it says beside that is its own business.
 */
import { Id } from '../../../model/common.ts';
import { type Static, Type } from '../../../model/schema.ts';

export const Root = Type.Object({
  versions: Type.Array(Type.Object({ min_version: Type.String(), max_version: Type.String() })),
});

export const ErrorAnswer = Type.Object({
  errors: Type.Array(Type.Object({ code: Type.Optional(Type.String()), detail: Type.String() })),
});

export const Provider = Type.Object({ uuid: Id, generation: Type.Integer() });

const InventoryRecord = Type.Object({
  total: Type.Integer(),
  reserved: Type.Integer(),
  allocation_ratio: Type.Number(),
});

export const Inventories = Type.Object({
  resource_provider_generation: Type.Integer(),
  inventories: Type.Record(Type.String(), InventoryRecord),
});
export type Inventories = Static<typeof Inventories>;

export const Traits = Type.Object({
  resource_provider_generation: Type.Integer(),
  traits: Type.Array(Type.String()),
});
export type Traits = Static<typeof Traits>;

export const TraitNames = Type.Object({ traits: Type.Array(Type.String()) });

export const ClassNames = Type.Object({
  resource_classes: Type.Array(Type.Object({ name: Type.String() })),
});

const Resources = Type.Record(Type.String(), Type.Integer());

export const Usages = Type.Object({ usages: Resources });

export const Candidates = Type.Object({
  allocation_requests: Type.Array(
    Type.Object({ allocations: Type.Record(Type.String(), Type.Object({ resources: Resources })) }),
  ),
  provider_summaries: Type.Record(
    Type.String(),
    Type.Object({
      resources: Type.Record(Type.String(), Type.Object({ capacity: Type.Integer(), used: Type.Integer() })),
    }),
  ),
});
export type Candidates = Static<typeof Candidates>;

export const ConsumerAllocations = Type.Object({
  allocations: Type.Record(Type.String(), Type.Object({ resources: Resources })),
  project_id: Type.Optional(Type.String()),
  user_id: Type.Optional(Type.String()),
  consumer_generation: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
});
export type ConsumerAllocations = Static<typeof ConsumerAllocations>;

export const ProviderAllocations = Type.Object({
  allocations: Type.Record(Type.String(), Type.Object({ resources: Resources })),
});
