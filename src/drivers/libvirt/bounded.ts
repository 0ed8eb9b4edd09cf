/** Maps a list with an asynchronous function, a bounded number at once. */

/**
 * @param most How many at once.
 * @returns The results, in the order of the items. The first failure is thrown, and no further item is begun.
 */
export async function mapBounded<T, R>(
  items: readonly T[],
  most: number,
  map: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const rest = items.entries();
  let hasFailed = false;
  const work = async () => {
    for (const [index, item] of rest) {
      if (hasFailed) return;
      results[index] = await map(item);
    }
  };
  const workers = Array.from({ length: Math.min(most, items.length) }, () =>
    work().catch((error: unknown) => {
      hasFailed = true;
      throw error;
    }),
  );
  await Promise.all(workers);
  return results;
}
