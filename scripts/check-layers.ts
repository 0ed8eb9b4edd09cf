/**
 * The layer rule, checked: imports go down only, and only the composition root names implementations.
 *
 * Prints each import that breaks a rule, with the rule; exit code 1 if there is one.
 */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

interface Rule {
  /** Files that the rule is about. */
  of: RegExp;
  /** What they may import from within the repository. */
  may: RegExp;
  why: string;
}

/** The first rule whose `of` matches holds. */
const RULES: Rule[] = [
  { of: /^packages\//, may: /^packages\//, why: 'the libvirt client stands alone' },
  { of: /^src\/sqlite\//, may: /^src\/(model|sqlite)\//, why: 'the database knows only the model' },
  { of: /^src\/model\//, may: /^src\/model\//, why: 'the model knows only itself' },
  {
    of: /^src\/drivers\/contracts\//,
    may: /^src\/(model|drivers\/contracts)\//,
    why: 'contracts know only the model',
  },
  {
    of: /^src\/drivers\/sim\//,
    may: /^src\/(model|drivers\/contracts|drivers\/sim|drivers\/bridge\/(names|plans)|drivers\/qcow2\/layout|drivers\/host\/private-file)/,
    why: 'the sim knows of the real drivers only how they name things, and how an administrator keeps secrets',
  },
  {
    of: /^src\/drivers\/([^/]+)\//,
    may: /^src\/(model|drivers\/contracts|drivers\/host|drivers\/$1)\/|^node-libvirt$/,
    why: 'a driver knows the model, the contracts, the host and itself',
  },
  {
    of: /^src\/agent\/(main|drivers)\.ts$/,
    may: /^src\/(model|drivers|agent)\//,
    why: 'the composition root sees all of the agent',
  },
  {
    of: /^src\/agent\//,
    may: /^src\/(model|sqlite|drivers\/contracts|agent)\//,
    why: 'the agent sees drivers through contracts',
  },
  {
    of: /^src\/scheduler\//,
    may: /^src\/(model|sqlite|scheduler)\//,
    why: 'the scheduler knows the model and the database',
  },
  {
    of: /^src\/conformance\//,
    may: /^src\/(model|conformance)\//,
    why: 'what tries both sides of a link shares the code of neither',
  },
  { of: /^src\/cli\//, may: /^src\/(model|cli)\//, why: 'the CLI knows only the model' },
];

/** Only drivers/libvirt may speak libvirt. */
const LIBVIRT_USERS = /^src\/drivers\/libvirt\//;

const IMPORT = /(?:^|\n)\s*(?:import|export)\s[^'";]*?from\s+'([^']+)'|import\('([^']+)'\)/g;

function brokenImports(file: string): string[] {
  const rule = RULES.find(({ of }) => of.test(file));
  if (rule === undefined) return [];
  const own = rule.of.exec(file)?.[1] ?? '';
  const may = new RegExp(rule.may.source.replace('$1', own));
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)]
    .map((match) => (match[1] ?? match[2]) as string)
    .map((target) => (target.startsWith('.') ? normalize(join(dirname(file), target)) : target))
    .filter(
      (target) => target.startsWith('src/') || target.startsWith('packages/') || target === 'node-libvirt',
    )
    .filter((target) => !may.test(target) || (target === 'node-libvirt' && !LIBVIRT_USERS.test(file)))
    .map((target) => `${file}: imports ${target}; ${rule.why}`);
}

const broken = globSync(['src/**/*.ts', 'packages/*/src/**/*.ts']).sort().flatMap(brokenImports);
for (const line of broken) console.error(line);
console.log(
  broken.length === 0 ? 'layers: every import goes down' : `layers: ${broken.length} imports break the rule`,
);
process.exitCode = broken.length === 0 ? 0 : 1;
