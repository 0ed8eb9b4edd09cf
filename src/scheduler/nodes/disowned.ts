/**
 * What a node has and should not: instances that are on another node by now, or that were deleted here.
 *
 * One that is not known here is the node's own business: an operator may have made it there. One whose creation has
 * failed is nobody's.
 */
import type { Store } from '../store/store.ts';

/** @param told Ids of the instances that the node says it has. */
export function disownedOf(store: Store, nodeId: string, told: readonly string[]): string[] {
  return told.filter((id) => {
    const known = store.instances.get(id);
    if (known === null) return store.commands.hasDeleted(id);
    return known.nodeId !== nodeId && known.phase !== 'failed';
  });
}
