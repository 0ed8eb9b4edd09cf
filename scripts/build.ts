/**
 * Builds dist/: one JavaScript file for each program with what they share, for shipping. Development and tests
 * run the TypeScript directly.
 *
 * A bundle starts faster and takes less memory than a thousand small modules, and an installation needs no
 * node_modules but SQLite's. The licences of all that is bundled go into dist/THIRD-PARTY-LICENSES.
 */
import { chmodSync, existsSync, globSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = join(import.meta.dirname, '..');
const PROGRAMS = ['agent', 'scheduler', 'conformance', 'cli'];

/** CommonJS packages within an ES module call `require` for Node's own modules. */
const BANNER =
  "import { createRequire as createRequireOfBundle } from 'node:module';\nconst require = createRequireOfBundle(import.meta.url);";

/**
 * Builtin modules that are not loaded as they are asked for. Node reads every property of one that is imported, and one of
 * node:http's loads a whole HTTP client of 8 MB that nothing here uses: it is required, and those who use a property read it.
 * Fastify requires node:http2, 2 MB, for servers that speak it, which ours don't.
 */
const OTHERWISE_LOADED: Record<string, string> = {
  'node:http': "module.exports = require('node:http');",
  'node:http2': "module.exports = new Proxy({}, { get: (_, name) => require('node:http2')[name] });",
};
const LOADING: Plugin = {
  name: 'loading',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?http2?$/ }, ({ path, namespace }) =>
      namespace === 'loading'
        ? { path, external: true }
        : { path: path.replace(/^(node:)?/, 'node:'), namespace: 'loading' },
    );
    onLoad({ filter: /.*/, namespace: 'loading' }, ({ path }) => ({
      contents: OTHERWISE_LOADED[path] ?? '',
    }));
  },
};

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
  // The text stays in memory for as long as the program runs.
  minifyWhitespace: true,
  lineLimit: 120,
  plugins: [LOADING],
  metafile: true,
});
assertAscii(join(out, 'agent/main.js'));
for (const program of PROGRAMS) chmodSync(join(out, program, 'main.js'), 0o755);
writeFileSync(join(out, 'THIRD-PARTY-LICENSES'), licences(bundledPackages(Object.keys(metafile.inputs))));
rmSync(join(root, 'dist'), { recursive: true, force: true });
renameSync(out, join(root, 'dist'));
console.log('built dist/');

/** With one other character in it, all of a text takes two bytes a character in memory. */
function assertAscii(file: string): void {
  const [text] = /[^\0-\x7f].{0,40}/.exec(readFileSync(file, 'utf8')) ?? [];
  if (text !== undefined) throw new Error(`${file}: write this by escapes: ${text}`);
}

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
