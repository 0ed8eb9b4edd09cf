/**
 * The crash laboratory: `npm run crash [-- --json --seed N --cases N --driver libvirt|sim --operation KIND]`.
 *
 * It proves that operations survive anything. berthd runs as a process of its own; every operation is asked for
 * again and again, and each time something breaks at another moment: SIGKILL before and after every commit of the
 * journal, after every driver call that has acted, in the recovery, a full or broken disk, a libvirtd that is gone
 * or hangs, a lost database. Then berthd is started again, and when it is idle the host is audited, through the
 * drivers and with the host's own tools:
 *  - the operation has ended, as it says: rows and host are exactly those of "done" or of "never happened";
 *  - nothing is on the host that no row accounts for: domain, disk, tap, bridge, rule, seed, process;
 *  - every guest that should run is the same process as before.
 *
 *   main ─▶ run ─▶ inside (namespaces) ─▶ laboratory ─▶ bench ─▶ stand (sim, libvirt) ─▶ node ─▶ berthd
 *           report ◀── cases ◀── audit ◀──────────┘       ▲
 *                                     scenarios, faults ──┘
 *
 * Add an operation: declare its scenario in scenarios/, and list it in scenarios/index.ts.
 * Add a fault: declare it in faults/, and list it in faults/index.ts.
 *
 * Without --driver both laboratories run, the real one where it can. --cases takes so many by chance, the same
 * for the same seed. Exit code 1 on any leak or wrong end; 2 where it can't run. What failed says how to repeat it.
 */
import { parseArgs } from 'node:util';
import type { CaseReport, Choice, Observer } from './laboratory.ts';
import { failureOf, isRight, reportOf, tableOf } from './report.ts';
import { cannotRun, runInside } from './run.ts';
import { DRIVERS, type DriverName } from './stands/stand.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    cases: { type: 'string' },
    driver: { type: 'string' },
    operation: { type: 'string' },
    fault: { type: 'string' },
    at: { type: 'string' },
  },
});
const seed = integer('seed', values.seed, 0);
const cases: CaseReport[] = [];
const observer: Observer = {
  onCase(report) {
    cases.push(report);
    if (report.leaks.length + report.wrongEnds.length > 0) say(failureOf(report, seed));
    else if (!values.json) progress(cases.length);
  },
  onSkip: (what, reason) => say(`skipped: ${what}: ${reason}`),
};

const broken = await runAll(driversAsked());
const report = reportOf(seed, cases);
process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : `\n${tableOf(report)}\n`);
if (!isRight(report) || broken) process.exitCode = 1;

async function runAll(drivers: readonly DriverName[]): Promise<boolean> {
  let broken = false;
  for (const [index, driver] of drivers.entries()) {
    await runInside(driver, choiceFor(index, drivers.length), observer).catch((error: Error) => {
      broken = true;
      say(`BROKEN: the laboratory on ${driver}: ${error.message}`);
    });
  }
  return broken;
}

/** Several drivers share the cases. */
function choiceFor(index: number, drivers: number): Choice {
  const { operation, fault, at } = values;
  const all = values.cases === undefined ? undefined : integer('cases', values.cases, 1);
  const share = all === undefined ? undefined : Math.floor(all / drivers) + (index < all % drivers ? 1 : 0);
  return { seed, cases: share, operation, fault, at };
}

function driversAsked(): DriverName[] {
  const asked = DRIVERS.filter((driver) => values.driver === undefined || values.driver === driver);
  if (asked.length === 0) usage(`--driver is one of ${DRIVERS.join(', ')}`);
  const able = asked.filter((driver) => {
    const reason = cannotRun(driver);
    if (reason !== false) observer.onSkip(`the laboratory on ${driver}`, reason);
    return reason === false;
  });
  if (able.length === 0) process.exit(2);
  return able;
}

function integer(name: string, text: string, least: number): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) < least) usage(`--${name} is a number from ${least} on`);
  return Number(text);
}

function usage(message: string): never {
  say(message);
  process.exit(2);
}

function progress(count: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${count} cases`);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
