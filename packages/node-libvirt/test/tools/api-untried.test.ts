/** docs/api-untried.md is what the list of refused methods gives, and the list is about methods that there are. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { untriedPage } from '../../tools/api-untried.ts';
import { documentedMethods } from '../api/called.ts';
import { REFUSED } from '../api/refused.ts';

const run = promisify(execFile);
const TOOL = join(import.meta.dirname, '../../tools/api-untried.ts');

t.test('the committed page is what the list gives', async (t) => {
  await t.resolves(run(process.execPath, [TOOL, '--check']));
});

t.test('a page tells methods that never succeed from those that do elsewhere', (t) => {
  const page = untriedPage({
    'Domain.never': { code: 'VIR_ERR_NO_SUPPORT', why: 'it is gone' },
    'Domain.elsewhere': { code: 'VIR_ERR_RPC', why: 'it is new', unless: 'libvirt 99' },
  });
  const [never, elsewhere] = page.split('## Only');
  t.match(never, '| `Domain.never` | VIR_ERR_NO_SUPPORT | it is gone |');
  t.match(elsewhere, '| `Domain.elsewhere` | libvirt 99 | VIR_ERR_RPC | it is new |');
  t.end();
});

t.test('each refused method is one that docs/api.md has', (t) => {
  const unknown = Object.keys(REFUSED).filter((method) => {
    const [className = '', name = ''] = method.split('.');
    return !documentedMethods(className).includes(name);
  });
  t.strictSame(unknown, []);
  t.end();
});
