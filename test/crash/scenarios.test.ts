import t from 'tap';
import { METHODS } from '../../src/model/methods.ts';
import { FAULTS } from './faults/index.ts';
import { SCENARIOS } from './scenarios/index.ts';

t.test('every kind of operation has a scenario in the crash laboratory', (t) => {
  const kinds = Object.entries(METHODS)
    .filter(([, { kind }]) => kind === 'operation')
    .map(([name]) => name);
  const missing = kinds.filter((name) => !SCENARIOS.some(({ kind }) => kind === name));
  t.same(missing, [], 'declare one in test/crash/scenarios');
  t.end();
});

t.test('scenarios and faults are told apart by their names', (t) => {
  for (const names of [SCENARIOS.map(({ name }) => name), FAULTS.map(({ name }) => name)])
    t.equal(new Set(names).size, names.length);
  t.end();
});
