/**
 * A share of the laboratory's cases, by chance and yet always the same ones; all of them: `npm run crash`.
 */
import t from 'tap';
import type { CaseReport, Choice } from './laboratory.ts';
import { failureOf } from './report.ts';
import { cannotRun, runInside } from './run.ts';
import type { DriverName } from './stands/stand.ts';

const SEED = 4;
/** ms; some 40 s on an idle machine. */
const TEST_MS = 280_000;

const SHARES: { driver: DriverName; choice: Choice }[] = [
  { driver: 'sim', choice: { seed: SEED, cases: 30, quick: true } },
  { driver: 'libvirt', choice: { seed: SEED, cases: 10, operation: 'instance.create' } },
];

for (const { driver, choice } of SHARES) {
  const options = { skip: cannotRun(driver), timeout: TEST_MS };
  t.test(`operations survive what the crash laboratory does to them, on ${driver}`, options, async (t) => {
    const cases: CaseReport[] = [];
    await runInside(driver, choice, {
      onCase: (report) => cases.push(report),
      onSkip: (what, reason) => t.comment(`skipped: ${what}: ${reason}`),
    });
    const wrong = cases.filter(({ leaks, wrongEnds }) => leaks.length + wrongEnds.length > 0);
    for (const report of wrong) t.fail(failureOf(report, SEED));
    t.ok(cases.length > Number(choice.cases) / 2, `${cases.length} cases`);
  });
}
