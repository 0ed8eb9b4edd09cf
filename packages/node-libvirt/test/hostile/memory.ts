/** What the process holds, for tests that bound it. */
import { heapInUse } from '../fuzz/run.ts';

/** Bytes that are held in addition at the end of some work, when everything that can be collected is. */
export async function bytesHeldBy(work: () => unknown): Promise<number> {
  const before = heapInUse();
  const kept = await work();
  const held = heapInUse() - before;
  return kept === held ? 0 : held; // the result is alive until here
}
