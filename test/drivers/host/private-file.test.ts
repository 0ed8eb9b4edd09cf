import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FileKeys } from '../../../src/drivers/host/file-keys.ts';
import { readPrivateFile, readPrivateKey } from '../../../src/drivers/host/private-file.ts';
import { AgentError } from '../../../src/model/errors.ts';

const HEX = '0123456789abcdef'.repeat(4);
const VOLUME = '3f1c2f0a-8a52-4c63-9d2c-5f6a1f5c0001';

function keyFile(folder: string, text = HEX, mode = 0o600): string {
  const file = join(folder, 'key');
  writeFileSync(file, text, { mode });
  chmodSync(file, mode);
  return file;
}

/** As a caller would be told. */
async function messageOf(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AgentError)) return `no AgentError: ${error}`;
  return `${error.code} ${error.toBody().message} ${error.hint}`;
}

t.test('a file that others may read, or that is not ours, is refused', async (t) => {
  const folder = t.testdir();
  for (const mode of [0o640, 0o604, 0o666, 0o610]) {
    const wanted = { file: keyFile(folder, HEX, mode), what: 'the key', limitBytes: 100 };
    t.match(await messageOf(readPrivateFile(wanted)), /PERMISSION_DENIED .*others may read it/);
  }
  const file = keyFile(folder);
  if (process.getuid?.() !== 0) return;
  chownSync(file, 65_534, 65_534);
  t.match(await messageOf(readPrivateKey(file, 'the key')), /PERMISSION_DENIED/);
});

t.test('what is missing, a folder, endless or too large is refused', async (t) => {
  const folder = t.testdir();
  mkdirSync(join(folder, 'folder'), { mode: 0o700 });
  for (const file of [join(folder, 'none'), join(folder, 'folder'), '/dev/zero', '', 'relative'])
    t.match(await messageOf(readPrivateKey(file, 'the key')), /PERMISSION_DENIED/, file);
  t.match(await messageOf(readPrivateKey(keyFile(folder, HEX.repeat(10)), 'the key')), /larger than/);
});

t.test('a key has 64 hexadecimal digits, and what else is there is never said', async (t) => {
  const folder = t.testdir();
  const secret = 'zq'.repeat(30);
  for (const text of ['', HEX.slice(1), `${HEX}0`, `${HEX} ${HEX.slice(0, 8)}`, `0x${HEX}`, secret]) {
    const message = await messageOf(readPrivateKey(keyFile(folder, text), 'the key'));
    t.match(message, /PERMISSION_DENIED .*is not 64 hexadecimal digits.*openssl rand/);
    if (text.length > 10) t.notOk(message.includes(text));
  }
  for (const text of [HEX, `${HEX}\n`, HEX.toUpperCase()])
    t.equal((await readPrivateKey(keyFile(folder, text), 'the key')).toString('hex'), HEX);
});

t.test('each volume and each key has a passphrase of its own, the same every time', async (t) => {
  const folder = t.testdir();
  const one = keyFile(folder);
  const two = join(folder, 'other');
  writeFileSync(two, HEX.replace('0', '1'), { mode: 0o600 });
  const keys = new FileKeys(
    new Map([
      ['one', one],
      ['two', two],
    ]),
  );
  const passphrase = await keys.passphrase({ volumeId: VOLUME, key: 'one' });
  // As it has to be for ever: volumes would be lost with another one.
  t.equal(passphrase, 'ephBBXhLwZ-lbB-C18AZ3wc2ABCg2wH9A_gYS6RMR_k');
  t.match(passphrase, /^[\w-]{43}$/);
  t.equal(await keys.passphrase({ volumeId: VOLUME, key: 'one' }), passphrase);
  const others = [
    await keys.passphrase({ volumeId: VOLUME.replace('3f', '4f'), key: 'one' }),
    await keys.passphrase({ volumeId: VOLUME, key: 'two' }),
  ];
  t.equal(new Set([passphrase, ...others]).size, 3);
});

t.test('a key that there is not is told with those that there are', async (t) => {
  const keys = new FileKeys(new Map([['one', '/nonexistent']]));
  t.match(await messageOf(keys.passphrase({ volumeId: VOLUME, key: 'two' })), /NOT_FOUND .*two; it has one/);
  t.match(await messageOf(keys.check('one')), /PERMISSION_DENIED .*ENOENT/);
  t.match(await messageOf(new FileKeys(new Map()).check('x')), /it has none .*\[\[keys\]\]/);
});
