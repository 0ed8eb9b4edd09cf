/**
 * Builds dist/: JavaScript for shipping, from the same TypeScript that development runs directly.
 *
 * packages/node-libvirt gets a dist of its own, so that `import 'node-libvirt'` finds JavaScript.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

function compile(folder: string): void {
  rmSync(join(root, folder, 'dist'), { recursive: true, force: true });
  execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', join(root, folder, 'tsconfig.build.json')], {
    cwd: root,
    stdio: 'inherit',
  });
}

compile('packages/node-libvirt');
compile('.');
for (const program of ['agent', 'scheduler', 'cli']) chmodSync(join(root, 'dist', program, 'main.js'), 0o755);
console.log('built dist/');
