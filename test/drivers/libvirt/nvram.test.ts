/**
 * Firmware variables in a folder of QEMU's user, who may be hostile.
 */
import { execFileSync } from 'node:child_process';
import {
  link,
  lstat,
  mkdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname } from 'node:path';
import t, { type Test } from 'tap';
import { Lab, isThere, takeTime, whyNotHere } from './lab.ts';

takeTime(t);
const skip = await whyNotHere();

/** Defined, and not started: there is nothing yet in the place of its variables. */
async function uefiGuest(t: Test) {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const definition = await lab.emptyGuest({ firmware: 'uefi' });
  await hypervisor.define(definition);
  const { nvram } = hypervisor.keptPaths(definition.name);
  t.teardown(() => rm(nvram, { force: true, recursive: true }));
  return { lab, hypervisor, id: definition.id, nvram };
}

t.test('no link, device or giant in the place of firmware variables is followed', { skip }, async (t) => {
  const { lab, hypervisor, id, nvram } = await uefiGuest(t);
  const kept = lab.newPath('nvram');
  const secret = lab.newPath('secret');
  await writeFile(secret, 'of the host');
  const refused = async (what: string, make: () => Promise<unknown>) => {
    await rm(nvram, { force: true, recursive: true });
    await make();
    await t.rejects(hypervisor.keepNvram(id, kept), { code: 'HOST_CONFLICT' }, what);
    t.notOk(await isThere(kept), what);
  };
  await mkdir(dirname(nvram), { recursive: true });
  await refused('a link', () => symlink(secret, nvram));
  await refused('a dangling link', () => symlink(`${secret}-none`, nvram));
  await refused('a folder', () => mkdir(nvram));
  await refused('a pipe that nobody writes to', async () => execFileSync('mkfifo', [nvram]));
  await refused('nothing in it', () => writeFile(nvram, ''));
  await refused('a giant', () => writeFile(nvram, '').then(() => truncate(nvram, 1024 ** 4)));
  t.equal(await readFile(secret, 'utf8'), 'of the host');
});

t.test(
  'a copy is written only where the guest has written since, and never through a link',
  { skip },
  async (t) => {
    const { lab, hypervisor, id, nvram } = await uefiGuest(t);
    const [copy, secret] = [lab.newPath('copy'), lab.newPath('secret')];
    await writeFile(secret, 'of the host');
    await mkdir(dirname(nvram), { recursive: true });
    const written = async (text: string, at: Date) => {
      await writeFile(nvram, text);
      await utimes(nvram, at, at);
      t.equal(await hypervisor.copyNvram(id, copy), true);
      t.equal(await readFile(copy, 'utf8'), text);
      return (await stat(copy)).ino;
    };
    const first = await written('one', new Date(Date.now() - 60_000));
    await hypervisor.copyNvram(id, copy);
    t.equal((await stat(copy)).ino, first, 'the same file');
    t.equal((await stat(copy)).mode & 0o777, 0o600);
    await written('two', new Date(Date.now() - 30_000));
    const now = new Date();
    await written('a', now);
    await written('b', now);
    await rm(copy);
    await symlink(secret, copy);
    await written('c', new Date(Date.now() - 10_000));
    t.equal(await readFile(secret, 'utf8'), 'of the host');
    await rm(nvram);
    await symlink(secret, nvram);
    await t.rejects(hypervisor.copyNvram(id, copy), { code: 'HOST_CONFLICT' });
  },
);

t.test('what is put back replaces a link, and what it points at stays', { skip }, async (t) => {
  const { lab, hypervisor, id, nvram } = await uefiGuest(t);
  const [kept, other] = [lab.newPath('nvram'), lab.newPath('other')];
  await writeFile(kept, 'variables');
  await writeFile(other, 'of others');
  await mkdir(dirname(nvram), { recursive: true });
  for (const place of [link, symlink]) {
    await rm(nvram, { force: true });
    await place(other, nvram);
    await symlink(other, `${nvram}.partial`);
    const putting = hypervisor.restoreNvram(id, kept);
    if (place === symlink) await t.rejects(putting, { code: 'HOST_CONFLICT' });
    else await putting;
    t.equal(await readFile(other, 'utf8'), 'of others');
    await rm(`${nvram}.partial`, { force: true });
  }
  await rm(nvram);
  await hypervisor.restoreNvram(id, kept);
  t.equal(await readFile(nvram, 'utf8'), 'variables');
  t.ok((await lstat(nvram)).isFile());
  t.equal((await stat(nvram)).mode & 0o777, 0o600);
  t.notOk(await isThere(`${nvram}.partial`));
});

t.test('variables of a size that the firmware of this host has not are refused', { skip }, async (t) => {
  const { hypervisor, id, nvram } = await uefiGuest(t);
  await t.rejects(hypervisor.writeNvram(id, Buffer.alloc(4096, 1)), {
    code: 'UNSUPPORTED',
    message: /keeps .*540672.* bytes of variables, and these are 4096/,
    hint: /OVMF/,
  });
  t.notOk(await isThere(nvram));
  await hypervisor.writeNvram(id, Buffer.alloc(540_672, 1));
  t.equal((await stat(nvram)).mode & 0o777, 0o600);
});
