/** The package as it is published: built, packed, and used by a program that has nothing else. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..');

/** Where there is no daemon the program shows that the library loads, and that the error is its own. */
const PROGRAM = `
import { connect, constants, LibvirtTransportError } from 'node-libvirt';
try {
  await using connection = await connect('test:///default');
  const domain = await connection.domainLookupByName('test');
  const { state } = await domain.getState();
  console.log(state === constants.virDomainState.VIR_DOMAIN_RUNNING ? 'works' : 'state ' + state);
} catch (error) {
  console.log(error instanceof LibvirtTransportError ? 'works without a daemon' : String(error));
}
`;

const TYPED_PROGRAM = `
import { connect, type Domain } from 'node-libvirt';
export async function memoryOf(uri: string, name: string): Promise<bigint> {
  await using connection = await connect(uri, { readOnly: true });
  const domain: Domain = await connection.domainLookupByName(name);
  return (await domain.getInfo()).maxMem;
}
`;

const TSCONFIG = {
  compilerOptions: {
    noEmit: true,
    strict: true,
    target: 'esnext',
    module: 'nodenext',
    types: ['node'],
    typeRoots: [join(root, '..', '..', 'node_modules', '@types')],
  },
  files: ['program.ts'],
};

t.test('the packed package works for JavaScript and for TypeScript', async (t) => {
  const consumer = t.testdir();
  const installed = join(consumer, 'node_modules', 'node-libvirt');
  mkdirSync(installed, { recursive: true });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', consumer], { cwd: root });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string }];
  await run('tar', ['-xzf', join(consumer, filename), '-C', installed, '--strip-components=1']);

  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  t.equal(manifest.dependencies, undefined, 'it depends on nothing');
  for (const file of ['LICENSE', 'README.md', 'CHANGELOG.md', 'docs/api.md', 'dist/index.d.ts'])
    t.ok(existsSync(join(installed, file)), file);

  writeFileSync(join(consumer, 'program.mjs'), PROGRAM);
  const used = await run(process.execPath, [join(consumer, 'program.mjs')], { cwd: consumer });
  t.match(used.stdout, /^works/);

  writeFileSync(join(consumer, 'program.ts'), TYPED_PROGRAM);
  writeFileSync(join(consumer, 'tsconfig.json'), JSON.stringify(TSCONFIG));
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  await t.resolves(run(tsc, ['-p', '.'], { cwd: consumer }), 'its types are right');
});
