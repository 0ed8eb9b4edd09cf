/**
 * The laboratory on one stand: rehearses the scenarios, collects the cases, runs and audits each.
 *
 *   setting ─▶ trap is set ─▶ operation is asked for ─▶ fault ─▶ next berthd ─▶ all operations have ended ─▶ audit
 *
 * A case in which the fault found nothing to hit (the operation was over before) is none, and is not counted.
 */
import type { Findings } from './audit.ts';
import { Bench } from './bench.ts';
import { FAULTS } from './faults/index.ts';
import type { Case, Fault } from './faults/fault.ts';
import { Random } from './random.ts';
import { SCENARIOS } from './scenarios/index.ts';
import type { Scenario } from './scenarios/scenario.ts';
import { furnish } from './scenarios/setting.ts';
import type { Stand } from './stands/stand.ts';

export interface Choice {
  seed: number;
  /** Cases at most, taken by chance. @default all */
  cases?: number | undefined;
  /** Kind of operation. @default all */
  operation?: string | undefined;
  /** Leaves out the scenarios that take long. */
  quick?: boolean | undefined;
  /** Name of one fault, and of one of its cases. @default all */
  fault?: string | undefined;
  at?: string | undefined;
}

/** What is told of a case. */
export interface CaseReport extends Findings {
  driver: string;
  operation: string;
  fault: string;
  at: string;
  /** What berthd said, where something is wrong. */
  log: string;
}

export interface Observer {
  onCase(report: CaseReport): void;
  /** What can't be run here, or was not, and why. */
  onSkip(what: string, reason: string): void;
}

/** Cases in a row that break off before the stand is taken for lost. */
const BREAKS_LIMIT = 3;

interface Planned {
  scenario: Scenario;
  fault: Fault;
  case: Case;
}

/** Runs the chosen cases on a stand whose node has not been started. */
export async function runLaboratory(stand: Stand, choice: Choice, observer: Observer): Promise<void> {
  await stand.daemon?.start();
  await stand.node.start();
  await furnish(stand);
  const bench = await Bench.on(stand);
  const planned = await plan(bench, choice, observer);
  let breaks = 0;
  for (const { scenario, fault, case: one } of planned) {
    if (breaks === BREAKS_LIMIT) throw new Error(`${BREAKS_LIMIT} cases in a row broke off`);
    stand.node.markLog();
    const findings = await bench.run(scenario, one);
    if (findings === null) continue;
    breaks = findings.brokeOff ? breaks + 1 : 0;
    const isRight = findings.leaks.length + findings.wrongEnds.length === 0;
    const log = isRight ? '' : stand.node.logTail();
    const names = { driver: stand.driver, operation: scenario.name, fault: fault.name, at: one.at };
    const { leaks, wrongEnds } = findings;
    observer.onCase({ ...names, leaks, wrongEnds, log });
  }
}

async function plan(bench: Bench, choice: Choice, observer: Observer): Promise<Planned[]> {
  const faults = FAULTS.filter((fault) => isChosen(fault, bench.stand, choice, observer));
  const planned: Planned[] = [];
  for (const scenario of SCENARIOS) {
    if (choice.operation !== undefined && scenario.kind !== choice.operation) continue;
    if (scenario.drivers?.includes(bench.stand.driver) === false) continue;
    if (choice.quick === true && scenario.casesOfFault !== undefined) continue;
    await bench.rehearse(scenario);
    const { rehearsal } = bench.rehearsed(scenario);
    for (const fault of faults) {
      if (fault.suits?.(scenario) === false) continue;
      const random = new Random(choice.seed, bench.stand.driver, scenario.name, fault.name);
      const cases = fault.cases({ scenario, stand: bench.stand, rehearsal, random });
      const some = scenario.casesOfFault === undefined ? cases : random.sample(cases, scenario.casesOfFault);
      planned.push(...some.map((one) => ({ scenario, fault, case: one })));
    }
  }
  const wanted = choice.at === undefined ? planned : planned.filter(({ case: { at } }) => at === choice.at);
  if (choice.cases === undefined) return wanted;
  return new Random(choice.seed, bench.stand.driver).sample(wanted, choice.cases);
}

function isChosen(fault: Fault, stand: Stand, choice: Choice, observer: Observer): boolean {
  if (!fault.drivers.includes(stand.driver)) return false;
  if (choice.fault !== undefined && fault.name !== choice.fault) return false;
  const reason = fault.cannot?.(stand) ?? false;
  if (reason !== false) observer.onSkip(`${fault.name} (${stand.driver})`, reason);
  return reason === false;
}
