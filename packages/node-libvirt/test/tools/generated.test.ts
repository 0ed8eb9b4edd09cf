/** The committed *.gen.ts files and docs/api.md are what the generator makes of libvirt's files. Needs Debian's archive. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { PROTOCOL_VERSION } from '../../src/protocol/schema.gen.ts';

const run = promisify(execFile);
const tools = join(import.meta.dirname, '../../tools');

t.test('the committed output is what the generator makes', async (t) => {
  const dir = join(t.testdir(), 'libvirt');
  const missing = await whyNotFetched(dir);
  if (missing !== null) {
    t.pass('nothing to compare with', { skip: missing });
    return;
  }
  const check = run(process.execPath, [join(tools, 'generate.ts'), dir, '--check']);
  await t.resolves(check, 'generate.ts --check finds no difference');
});

/** Fetches libvirt's files. @returns Why they cannot be compared with; null when they can. */
async function whyNotFetched(dir: string): Promise<string | null> {
  try {
    await run(join(tools, 'fetch-protocol'), ['--only-fetch', dir]);
  } catch (error) {
    return `libvirt's source cannot be had: ${String(error).slice(0, 200)}`;
  }
  const version = readFileSync(join(dir, 'VERSION'), 'utf8').trim();
  return version === PROTOCOL_VERSION ? null : `Debian has libvirt ${version}: run tools/fetch-protocol`;
}
