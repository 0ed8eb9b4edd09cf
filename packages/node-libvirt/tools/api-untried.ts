/**
 * Writes docs/api-untried.md: the methods that the tests call on real daemons and that no daemon there carries out, from
 * the list that the tests are checked against (test/api/refused.ts).
 *
 * Usage: node tools/api-untried.ts [--check]
 *
 * With --check nothing is written, and the exit code is 1 when the file would change.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REFUSED, type Refusal } from '../test/api/refused.ts';

const PAGE = join(import.meta.dirname, '..', 'docs', 'api-untried.md');

const HEAD = `# Methods that the tests have not seen succeed

Made by \`tools/api-untried.ts\` from \`test/api/refused.ts\`. Every method of docs/api.md is called by the tests on a real
daemon, and succeeds there, but for these. They are called as well, and it is tested that the daemon refuses them with the
code given here.
`;

/** The page of these methods. */
export function untriedPage(refused: Readonly<Record<string, Refusal>>): string {
  const entries = Object.entries(refused).toSorted(([one], [other]) => (one < other ? -1 : 1));
  const [never, elsewhere] = [
    entries.filter(([, { unless }]) => unless === undefined),
    entries.filter(([, { unless }]) => unless !== undefined),
  ];
  return [
    HEAD,
    '## On no test machine\n',
    '| method | refused with | why |',
    '| --- | --- | --- |',
    ...never.map(([method, { code, why }]) => `| \`${method}\` | ${code} | ${why} |`),
    '',
    '## Only where the machine has what they need\n',
    'Where it has, the tests see them succeed.\n',
    '| method | needs | refused elsewhere with | why |',
    '| --- | --- | --- | --- |',
    ...elsewhere.map(([method, { code, why, unless }]) => `| \`${method}\` | ${unless} | ${code} | ${why} |`),
    '',
  ].join('\n');
}

if (import.meta.main) {
  const page = untriedPage(REFUSED);
  if (!process.argv.includes('--check')) writeFileSync(PAGE, page);
  else if (readFileSync(PAGE, 'utf8') !== page) {
    console.error('docs/api-untried.md is not what test/api/refused.ts gives; run node tools/api-untried.ts');
    process.exitCode = 1;
  }
}
