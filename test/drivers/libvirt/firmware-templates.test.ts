/** What a host's descriptions say of the variables that its firmware keeps. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { variableSizes } from '../../../src/drivers/libvirt/firmware-templates.ts';

async function described(t: Test, files: Record<string, string>): Promise<number[]> {
  const folder = join(t.testdir(), 'firmware');
  await mkdir(folder);
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  return variableSizes([join(folder, 'none'), folder]);
}

function flash(filename: unknown, format = 'raw'): string {
  return JSON.stringify({ mapping: { device: 'flash', 'nvram-template': { filename, format } } });
}

t.test('each size is told once', async (t) => {
  const folder = t.testdir({ small: 'x'.repeat(10), large: 'x'.repeat(20), other: 'y'.repeat(20) });
  const sizes = await variableSizes([join(folder, 'none')]);
  t.same(sizes, [], 'none where nothing is described');
  for (const [place, name] of ['small', 'large', 'other'].entries())
    await writeFile(join(folder, `${place}.json`), flash(join(folder, name)));
  t.same(await variableSizes([folder]), [10, 20]);
});

t.test('what describes no flash is passed by', async (t) => {
  const sizes = await described(t, {
    '1.json': '',
    '2.json': 'null',
    '3.json': '[1]',
    '4.json': '{"mapping":7}',
    '5.json': '{"mapping":{"device":"memory"}}',
    '6.json': '{"mapping":{"nvram-template":null}}',
    '7.json': flash(['/etc/passwd']),
    '8.json': flash('/nowhere/at/all'),
    '9.json': flash('/etc/passwd', 'qcow2'),
    'a.json': `${'['.repeat(100_000)}`,
    'b.txt': flash('/etc/passwd'),
  });
  t.same(sizes, []);
});
