/**
 * Reads TAP from standard input and says how the tests went: a line for each file, every failure with its
 * diagnosis, every skipped test with its reason, and last `N passed, N failed, N skipped`.
 *
 * A test is a named block of a test file (`t.test`), not an assertion. A file that breaks outside of its
 * tests counts as one that failed. Exit code 1 when a test failed, or none was run.
 */
import { createInterface } from 'node:readline';

/** `ok 3 - name # time=12ms`, `not ok 1 - name`, with what stands before and behind it. */
const POINT =
  /^(?<indent> *)(?<verdict>ok|not ok) \d+(?: - (?<name>.*?))?(?: # (?<directive>time=|SKIP|TODO)(?<detail>.*?))?(?: \{)?$/;

interface Tally {
  passed: number;
  failed: number;
  skipped: string[];
}

const all: Tally = { passed: 0, failed: 0, skipped: [] };
let file: Tally = { passed: 0, failed: 0, skipped: [] };
/** Lines of the file under way, for the diagnosis. */
let lines: string[] = [];

for await (const line of createInterface({ input: process.stdin })) {
  lines.push(line);
  const point = POINT.exec(line)?.groups;
  if (point === undefined) continue;
  if (point['indent'] === '') endFile(point);
  else countTest(point);
}

for (const skipped of all.skipped) console.log(`skipped: ${skipped}`);
console.log(`${all.passed} passed, ${all.failed} failed, ${all.skipped.length} skipped`);
process.exitCode = all.failed > 0 || all.passed === 0 ? 1 : 0;

type Point = Record<string, string>;

function countTest({ verdict, name = '', directive, detail = '' }: Point): void {
  if (directive === 'SKIP') file.skipped.push(`${name}: ${detail.trim()}`);
  else if (directive !== 'time=') return;
  else if (verdict === 'ok') file.passed++;
  else file.failed++;
}

function endFile({ verdict, name = '', detail = '', directive }: Point): void {
  if (directive === 'SKIP') file.skipped.push(`${name}: ${detail.trim()}`);
  if (verdict === 'not ok' && file.failed === 0) file.failed++;
  const counts = `${file.passed} passed${file.failed === 0 ? '' : `, ${file.failed} failed`}`;
  console.log(
    `${verdict === 'ok' ? 'ok    ' : 'FAILED'} ${name} (${counts}${directive === 'time=' ? `, ${detail}` : ''})`,
  );
  if (verdict === 'not ok') console.log(lines.filter((line) => !/^ *ok /.test(line)).join('\n'));
  all.passed += file.passed;
  all.failed += file.failed;
  all.skipped.push(...file.skipped.map((skipped) => `${name}: ${skipped}`));
  file = { passed: 0, failed: 0, skipped: [] };
  lines = [];
}
