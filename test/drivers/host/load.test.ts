/** What a machine uses, from the kernel's texts. */
import t from 'tap';
import { loadOf } from '../../../src/drivers/host/load.ts';

const STAT = 'cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n';
const LOADAVG = '0.50 1.25 2.00 1/200 4242\n';
const MEMINFO =
  'MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  4194304 kB\nSwapTotal: 1048576 kB\nSwapFree: 524288 kB\n';
const TEXTS = { stat: STAT, loadavg: LOADAVG, meminfo: MEMINFO };

t.test('time is told in milliseconds, and that of guests is counted once', async (t) => {
  t.same(loadOf(TEXTS), {
    cpuMs: { total: 6210, idle: 4000, iowait: 500, steal: 80 },
    loadAverages: [0.5, 1.25, 2],
    memoryMib: { total: 8192, available: 4096, swapTotal: 1024, swapFree: 512 },
  });
});

t.test('texts that are none are UNAVAILABLE, and never an idle machine', async (t) => {
  for (const change of [
    { stat: '' },
    { stat: 'cpu  1 2 3\n' },
    { stat: 'cpu0 1 2 3 4 5 6 7 8 9 10\n' },
    { loadavg: '' },
    { loadavg: '0.5 x 1 1/2 3' },
    { meminfo: 'MemTotal: 5 kB\n' },
    { meminfo: MEMINFO.replace('SwapFree', 'Other') },
  ])
    t.throws(() => loadOf({ ...TEXTS, ...change }), { code: 'UNAVAILABLE' }, JSON.stringify(change));
});
