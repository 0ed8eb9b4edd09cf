/** What instances claim, counted anew: another version may count what they take in another way. */
import { memoryClaimMib } from '../../model/overhead.ts';
import type { Store } from '../store/store.ts';

/** To be called before the node tells what it has. Nothing is refused: what is too much is told as over-committed. */
export function recountInstances(store: Store): void {
  const wrong = store.instances
    .list()
    .map(({ id, spec }) => ({ id, mib: memoryClaimMib(spec) }))
    .filter(({ id, mib }) => store.allocations.amountOf(id, 'MEMORY_MB') !== mib);
  if (wrong.length === 0) return;
  store.db.transaction(() => {
    for (const { id, mib } of wrong) store.allocations.setAmount(id, 'MEMORY_MB', mib);
  });
}
