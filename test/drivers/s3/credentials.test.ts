import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseCredentials, readCredentials } from '../../../src/drivers/s3/credentials.ts';
import { AgentError } from '../../../src/model/errors.ts';

const SECRET = 'notToBeSeenInAnyMessage';
const GOOD = `# of the backup user\naccessKeyId = AKID\n\nsecretAccessKey=${SECRET}\n`;

t.test('keys are read, and a token where there is one', async (t) => {
  t.same(parseCredentials('f', GOOD), { accessKeyId: 'AKID', secretAccessKey: SECRET });
  t.equal(parseCredentials('f', `${GOOD}sessionToken = tok=en`).sessionToken, 'tok=en');
});

t.test('a file of another form is refused by its line, without a word of what it says', async (t) => {
  const texts = [
    `secretAccessKey = ${SECRET}`,
    `${GOOD}secretAccessKey = ${SECRET}`,
    `${GOOD}password = ${SECRET}`,
    `accessKeyId = AKID\nsecretAccessKey = ${SECRET} ${SECRET}`,
    SECRET,
    '',
  ];
  for (const text of texts) {
    const error = t.throws(() => parseCredentials('f', text), { code: 'PERMISSION_DENIED' });
    t.notOk(String((error as unknown as AgentError).message).includes(SECRET));
  }
});

t.test('a file that others may read is refused', async (t) => {
  const file = join(t.testdir(), 'credentials');
  writeFileSync(file, GOOD, { mode: 0o600 });
  t.equal((await readCredentials(file)).accessKeyId, 'AKID');
  for (const mode of [0o640, 0o604, 0o666]) {
    chmodSync(file, mode);
    await t.rejects(readCredentials(file), { code: 'PERMISSION_DENIED', hint: /chmod 600/ });
  }
});

t.test('a file that is missing, a folder, or endless is refused', async (t) => {
  const folder = t.testdir();
  for (const path of [join(folder, 'none'), folder, '/dev/zero']) {
    const error = await readCredentials(path).catch((thrown) => thrown);
    t.ok(error instanceof AgentError && error.code === 'PERMISSION_DENIED', path);
  }
});
