import { RESTORE_SCOPES } from '../../src/model/drift.ts';
import { readFileSync } from 'node:fs';
import t from 'tap';
import * as words from '../../src/cli/words.ts';
import { LIST_LIMIT } from '../../src/model/common.ts';
import { DISK_AIOS, DISK_BUSES, DISK_CACHES, VolumeQos } from '../../src/model/disk.ts';
import { FIRMWARES, REBOOT_MODES, SEED_FORMATS, STOP_MODES } from '../../src/model/instance.ts';
import { hasEnded, OBJECT_KINDS, OPERATION_STATES } from '../../src/model/operation.ts';
import { BOOT_ACTIONS, CRASH_ACTIONS, DRIFT_ACTIONS, WATCHDOGS } from '../../src/model/policy.ts';
import { COMPRESSIONS, EXPORT_FORMATS, SOURCE_FORMATS } from '../../src/model/storage.ts';
import { VERSION } from '../../src/model/version.ts';

t.test("the command line's words are the model's", async (t) => {
  t.strictSame(words.STOP_MODES, STOP_MODES);
  t.strictSame(words.REBOOT_MODES, REBOOT_MODES);
  t.strictSame(words.SOURCE_FORMATS, SOURCE_FORMATS);
  t.strictSame(words.COMPRESSIONS, COMPRESSIONS);
  t.strictSame(words.EXPORT_FORMATS, EXPORT_FORMATS);
  t.strictSame(words.DISK_BUSES, DISK_BUSES);
  t.strictSame(words.DISK_CACHES, DISK_CACHES);
  t.strictSame(words.DISK_AIOS, DISK_AIOS);
  const limits = Object.keys(VolumeQos.properties);
  const hyphened = (name: string) => name.replace(/[A-Z]/, (capital) => `-${capital.toLowerCase()}`);
  t.strictSame([...words.QOS_LIMITS], limits.map(hyphened));
  t.strictSame(words.FIRMWARES, FIRMWARES);
  t.strictSame(words.SEED_FORMATS, SEED_FORMATS);
  t.strictSame(words.CRASH_ACTIONS, CRASH_ACTIONS);
  t.strictSame(words.BOOT_ACTIONS, BOOT_ACTIONS);
  t.strictSame(words.DRIFT_ACTIONS, DRIFT_ACTIONS);
  t.strictSame(words.RESTORE_SCOPES, RESTORE_SCOPES);
  t.strictSame(words.WATCHDOGS, WATCHDOGS);
  t.strictSame(words.OBJECT_KINDS, OBJECT_KINDS);
  t.strictSame(words.OPERATION_STATES, OPERATION_STATES);
  t.equal(words.LIST_LIMIT, LIST_LIMIT);
  for (const state of OPERATION_STATES) t.equal(words.hasEnded(state), hasEnded(state), state);
});

t.test('the version is that of the package', async (t) => {
  const file = new URL('../../package.json', import.meta.url);
  t.equal(VERSION, (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version);
});
