/** The table, and the JSON that says the same. */
import type { CaseReport } from './laboratory.ts';

export interface ReportRow {
  operation: string;
  fault: string;
  cases: number;
  leaks: number;
  wrongEnds: number;
}

export interface Report {
  seed: number;
  cases: number;
  leaks: number;
  wrongEnds: number;
  rows: ReportRow[];
}

/** A case with ten leaks is one case that leaks. */
export function reportOf(seed: number, cases: readonly CaseReport[]): Report {
  const groups = Map.groupBy(cases, ({ operation, fault, driver }) => `${operation}\n${driver}: ${fault}`);
  const rows = [...groups].map(([key, group]) => {
    const [operation = '', fault = ''] = key.split('\n');
    return { operation, fault, ...countsOf(group) };
  });
  return { seed, ...countsOf(cases), rows };
}

export function isRight({ leaks, wrongEnds }: Pick<Report, 'leaks' | 'wrongEnds'>): boolean {
  return leaks + wrongEnds === 0;
}

function countsOf(cases: readonly CaseReport[]): { cases: number; leaks: number; wrongEnds: number } {
  return {
    cases: cases.length,
    leaks: cases.filter(({ leaks }) => leaks.length > 0).length,
    wrongEnds: cases.filter(({ wrongEnds }) => wrongEnds.length > 0).length,
  };
}

export function tableOf({ seed, rows, ...total }: Report): string {
  const head = ['operation', 'fault', 'cases', 'leaks', 'wrong ends'];
  const body = rows.map((row) => [
    row.operation,
    row.fault,
    ...[row.cases, row.leaks, row.wrongEnds].map(String),
  ]);
  const sum = ['all', `seed ${seed}`, ...[total.cases, total.leaks, total.wrongEnds].map(String)];
  const lines = [head, ...body, sum];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const pad = (text: string, column: number) =>
    column < 2 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0);
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}

/** What is told of a case that went wrong: what, and how to see it again. */
export function failureOf(
  { driver, operation, fault, at, leaks, wrongEnds, log }: CaseReport,
  seed: number,
): string {
  const kind = operation.split(' ')[0];
  const again = `npm run crash -- --seed ${seed} --driver ${driver} --operation ${kind} --fault '${fault}' --at '${at}'`;
  return [
    `WRONG: ${operation}, ${driver}: ${fault}, ${at} (seed ${seed})`,
    ...leaks.map((line) => `  leak: ${line}`),
    ...wrongEnds.map((line) => `  wrong end: ${line}`),
    `  again: ${again}`,
    ...log.split('\n').map((line) => `    | ${line}`),
  ].join('\n');
}
