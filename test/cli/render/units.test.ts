import t from 'tap';
import { clean, widthOf } from '../../../src/cli/render/text.ts';
import { formatAge, formatBytes, formatCounts, formatGib, formatMib } from '../../../src/cli/render/units.ts';

t.test('sizes have the largest unit that leaves a number of at least one', async (t) => {
  for (const [bytes, text] of [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [10 * 1024, '10 KiB'],
    [1_610_612_736, '1.5 GiB'],
    [2 ** 53, '8 PiB'],
    [Number.NaN, '-'],
  ] as const) {
    t.equal(formatBytes(bytes), text);
  }
  t.equal(formatMib(256), '256 MiB');
  t.equal(formatGib(2048), '2 TiB');
});

t.test('ages change their unit at twice its size, and are never negative', async (t) => {
  const now = Date.parse('2026-03-01T12:00:00.000Z');
  for (const [seconds, text] of [
    [-5, '0s'],
    [0, '0s'],
    [119, '119s'],
    [120, '2m'],
    [7199, '119m'],
    [7200, '2h'],
    [172_799, '47h'],
    [172_800, '2d'],
  ] as const) {
    t.equal(formatAge(new Date(now - seconds * 1000).toISOString(), now), text);
  }
  t.equal(formatAge('never', now), '-');
});

t.test('counts leave out what is not there', async (t) => {
  t.equal(formatCounts({ running: 3, stopped: 0, crashed: 1 }), '3 running, 1 crashed');
  t.equal(formatCounts({}), 'none');
});

t.test('text is cut at its limit and measured in columns', async (t) => {
  t.equal(clean('abcdef', 4), 'abc…');
  t.equal(clean(7), '7');
  t.equal(clean(undefined), '');
  t.equal(widthOf('aä漢\u0301'), 4);
});
