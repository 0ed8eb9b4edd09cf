/**
 * What may be asked of placement beside the spec: where an instance may go, and where it should.
 */
import { Name, strict } from '../../model/common.ts';
import { type Static, Type } from '../../model/schema.ts';

/** Traits in one list, and classes of devices: more than any host's name. */
const NAMES_LIMIT = 64;
const DEVICES_MAX = 1_000;

export const POLICIES = ['spread', 'pack'] as const;
export type Policy = (typeof POLICIES)[number];

export const GROUP_POLICIES = ['affinity', 'anti-affinity', 'soft-affinity', 'soft-anti-affinity'] as const;
export type GroupPolicy = (typeof GROUP_POLICIES)[number];

/** As Placement has them: VCPU, VGPU, HW_CPU_X86_AVX2, CUSTOM_…. */
const SymbolName = Type.String({ pattern: '^[A-Z0-9_]{1,200}$' });
const Traits = Type.Array(SymbolName, { maxItems: NAMES_LIMIT, uniqueItems: true });

export const PlacementRequest = strict({
  policy: Type.Optional(
    Type.Enum([...POLICIES], {
      description:
        "spread: on the node with the most room; pack: with the least. Default: the scheduler's --policy",
    }),
  ),
  requiredTraits: Type.Optional({ ...Traits, description: 'the node has to have all of them' }),
  forbiddenTraits: Type.Optional({ ...Traits, description: 'the node must have none of them' }),
  devices: Type.Optional(
    Type.Record(SymbolName, Type.Integer({ minimum: 1, maximum: DEVICES_MAX }), {
      additionalProperties: false,
      maxProperties: NAMES_LIMIT,
      description: 'what it takes of other resource classes, such as { "VGPU": 1 }',
    }),
  ),
  group: Type.Optional(
    strict({
      name: Name,
      policy: Type.Enum([...GROUP_POLICIES], {
        description:
          'affinity: on the node of the others; anti-affinity: on a node with none of them; soft: only if it can be',
      }),
    }),
  ),
});
export type PlacementRequest = Static<typeof PlacementRequest>;
