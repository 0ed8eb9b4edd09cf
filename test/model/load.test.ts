import t from 'tap';
import { loadLevels, NO_LOAD } from '../../src/model/load.ts';

const idle = { cpu: 0, steal: 0, memory: 0 };

t.test('each level has its own thresholds', async (t) => {
  t.same(loadLevels(NO_LOAD, idle), NO_LOAD);
  t.same(loadLevels(NO_LOAD, { cpu: 50, steal: 2, memory: 80 }), {
    cpu: 'medium',
    steal: 'medium',
    memory: 'medium',
  });
  t.same(loadLevels(NO_LOAD, { cpu: 85, steal: 10, memory: 95 }), {
    cpu: 'high',
    steal: 'high',
    memory: 'high',
  });
  t.same(loadLevels(NO_LOAD, { ...idle, steal: 9.9 }), { ...NO_LOAD, steal: 'medium' });
});

t.test('what swings around a threshold changes its level once', async (t) => {
  let [levels, changes] = [NO_LOAD, 0];
  for (let i = 0; i < 1_000; i++) {
    const next = loadLevels(levels, { ...idle, cpu: i % 2 === 0 ? 87 : 83 });
    if (next.cpu !== levels.cpu) changes++;
    levels = next;
  }
  t.equal(levels.cpu, 'high');
  t.equal(changes, 1);
});

t.test('a level is left well below where it was reached, and then for good', async (t) => {
  const high = loadLevels(NO_LOAD, { ...idle, cpu: 90 });
  t.equal(loadLevels(high, { ...idle, cpu: 73 }).cpu, 'high');
  const medium = loadLevels(high, { ...idle, cpu: 72 });
  t.equal(medium.cpu, 'medium');
  t.equal(loadLevels(medium, { ...idle, cpu: 84 }).cpu, 'medium');
  t.equal(loadLevels(medium, { ...idle, cpu: 42 }).cpu, 'low');
});
