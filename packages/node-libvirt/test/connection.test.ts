/** What a Connection makes of replies, without a daemon. */
import t from 'tap';
import { Connection } from '../src/connection.ts';
import type { Pool } from '../src/pool.ts';

const TIMEOUTS_MS = { control: 1_000, short: 1_000, long: 1_000 };

t.test(
  'statistics are given as they were decoded in slices: nobody goes over all of them once more',
  async (t) => {
    const dom = { name: 'web-1', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 };
    const params = { 'cpu.time': 1n };
    const asked: unknown[] = [];
    const pool = {
      async call(...args: unknown[]) {
        asked.push(args);
        return { retStats: [{ dom, params }] };
      },
    };
    const connection = new Connection(pool as unknown as Pool, TIMEOUTS_MS, 'test:///default');
    const [record] = await connection.getAllDomainStats(1, 2, { timeoutMs: 5 });
    t.equal(record?.stats, params);
    t.equal(record?.domain.name, 'web-1');
    const limits = { timeoutMs: 5, signal: undefined, typedParams: 'object' };
    t.same(asked, [['connectGetAllDomainStats', { doms: [], stats: 1, flags: 2 }, 'long', limits]]);
  },
);
