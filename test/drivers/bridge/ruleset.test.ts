import t from 'tap';
import { ruleMarks, ruleset } from '../../../src/drivers/bridge/ruleset.ts';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import fc from '../../property.ts';
import { matchesGolden } from './golden.ts';
import { labLacks, makeNamespace } from './lab.ts';
import { anyPlan, SAMPLES } from './plan-samples.ts';

const lacking = await labLacks();

for (const [name, plan] of Object.entries(SAMPLES)) {
  t.test(`the ruleset of ${name} is the golden one`, async (t) => {
    matchesGolden(t, `${name}.nft`, ruleset(plan));
  });
}

t.test('nft takes every golden ruleset, and replaces one by another', { skip: lacking }, async (t) => {
  const exec = await makeNamespace(t);
  for (const plan of Object.values(SAMPLES)) await exec.run('nft', ['-f', '-'], { input: ruleset(plan) });
  const { stdout } = await exec.run('nft', ['list', 'tables']);
  t.equal(stdout.trim().split('\n').length, 1);
});

t.test('nft takes the ruleset of any plan', { skip: lacking }, async () => {
  const host = new HostExec();
  await fc.assert(
    fc.asyncProperty(anyPlan, async (plan) => {
      await host.run('unshare', ['--net', 'nft', '--check', '-f', '-'], { input: ruleset(plan) });
    }),
    { numRuns: 10 },
  );
});

t.test('a ruleset names one table, its own', async () => {
  fc.assert(
    fc.property(anyPlan, (plan) => {
      const tables = ruleset(plan).match(/table inet \S+/g) ?? [];
      return tables.length === 3 && new Set(tables).size === 1;
    }),
  );
});

t.test('every rule bears a mark, and the marks of two plans that differ in rules differ', async (t) => {
  fc.assert(
    fc.property(anyPlan, (plan) => {
      const rules = ruleset(plan).match(/ comment "/g) ?? [];
      t.equal(rules.length, ruleMarks(plan).length);
      t.strictNotSame(ruleMarks(plan), ruleMarks({ ...plan, nat: !plan.nat }));
      t.strictNotSame(ruleMarks(plan), ruleMarks({ ...plan, dhcp: !plan.dhcp }));
    }),
  );
});
