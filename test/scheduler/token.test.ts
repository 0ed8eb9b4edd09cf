/** The bearer token: its file and its comparison. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BearerCheck, loadOrCreateToken } from '../../src/scheduler/token.ts';

const folder = mkdtempSync(join(tmpdir(), 'gsch-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('a missing file is made with a random token that only its owner can read', async (t) => {
  const path = join(folder, 'sub', 'token');
  const token = loadOrCreateToken(path);
  t.match(token, /^[\w-]{43}$/);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(loadOrCreateToken(path), token);
  t.not(loadOrCreateToken(join(folder, 'other')), token);
});

t.test('a file that is there is read, and never written', async (t) => {
  const path = join(folder, 'own');
  writeFileSync(path, '  sixteen-or-more-characters\n');
  t.equal(loadOrCreateToken(path), 'sixteen-or-more-characters');
  writeFileSync(path, 'short');
  t.throws(() => loadOrCreateToken(path), { code: 'INVALID_ARGUMENT' });
  t.equal(readFileSync(path, 'utf8'), 'short');
});

t.test('only the whole token is accepted', async (t) => {
  const bearer = new BearerCheck('the-whole-token-of-it');
  t.equal(bearer.accepts('Bearer the-whole-token-of-it'), true);
  t.equal(bearer.accepts('bearer  the-whole-token-of-it'), true);
  for (const shown of [
    undefined,
    '',
    'Bearer',
    'Bearer the-whole-token-of-i',
    'Bearer x the-whole-token-of-it',
  ]) {
    t.equal(bearer.accepts(shown), false);
  }
});
