/**
 * Builds dist/: one JavaScript file for each program with what they share, for shipping. Development and tests
 * run the TypeScript directly.
 *
 * A bundle starts faster and takes less memory than a thousand small modules, and an installation needs no
 * node_modules but SQLite's. The licences of all that is bundled go into dist/THIRD-PARTY-LICENSES.
 */
import { chmodSync, existsSync, globSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const PROGRAMS = ['agent', 'scheduler', 'cli'];

/** CommonJS packages within an ES module call `require` for Node's own modules. */
const BANNER =
  "import { createRequire as createRequireOfBundle } from 'node:module';\nconst require = createRequireOfBundle(import.meta.url);";

/** Built beside the old one, which stays whole until the new one takes its place. */
const out = join(root, 'dist.new');
rmSync(out, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: Object.fromEntries(PROGRAMS.map((program) => [`${program}/main`, `src/${program}/main.ts`])),
  outdir: out,
  bundle: true,
  splitting: true,
  chunkNames: 'shared/[name]-[hash]',
  platform: 'node',
  target: 'node24',
  format: 'esm',
  conditions: ['berth-source'],
  external: ['better-sqlite3'],
  banner: { js: BANNER },
  legalComments: 'none',
  metafile: true,
});
for (const program of PROGRAMS) chmodSync(join(out, program, 'main.js'), 0o755);
writeFileSync(join(out, 'THIRD-PARTY-LICENSES'), licences(bundledPackages(Object.keys(metafile.inputs))));
rmSync(join(root, 'dist'), { recursive: true, force: true });
renameSync(out, join(root, 'dist'));
console.log('built dist/');

function bundledPackages(inputs: string[]): string[] {
  const folders = inputs.map(
    (input) => /^(?:.*node_modules\/(?:@[^/]+\/)?[^/]+|packages\/[^/]+)/.exec(input)?.[0],
  );
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

function licences(folders: string[]): string {
  return folders
    .map((folder) => `${title(folder)}\n\n${licenceText(folder)}\n`)
    .join(`\n${'='.repeat(80)}\n\n`);
}

function title(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
  return `${name} ${version} (${license})`;
}

function licenceText(folder: string): string {
  const [file] = globSync(join(root, folder, '{LICENSE,LICENCE,license,licence}*'));
  return file !== undefined && existsSync(file)
    ? readFileSync(file, 'utf8').trim()
    : 'No licence file in the package.';
}
