/** Domain: its state in files, and dumps of its memory. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, GUEST_PROGRAMS, guestXml } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { virDomainState: state, virDomainShutoffReason: reason } = constants;
const { VIR_DOMAIN_START_PAUSED: paused } = constants.virDomainCreateFlags;
const { VIR_DUMP_MEMORY_ONLY: memoryOnly } = constants.virDomainCoreDumpFlags;
const { VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB: zlib } = constants.virDomainCoreDumpFormat;

const called = record(Domain, DOMAIN_SHARES, 'saving');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

t.test('a domain is saved to a file, and goes on from there', { skip }, async (t) => {
  const connection = await connectionTo('test:///default');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-saved', type: 'test' }));
  const path = join(daemon().host.dir, 'saved');
  await domain.create();
  await domain.save(path);
  t.strictSame(await domain.getState(), {
    state: state.VIR_DOMAIN_SHUTOFF,
    reason: reason.VIR_DOMAIN_SHUTOFF_SAVED,
  });
  await connection.domainRestore(path);
  t.equal((await domain.getState()).state, state.VIR_DOMAIN_RUNNING);
  await domain.saveFlags(path, null, 0);
  t.equal(await domain.isActive(), false);
});

t.test('what a domain is saved with is given by name', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-params' }));
  const file = join(daemon().host.dir, 'saved-by-qemu');
  await domain.createWithFlags(paused);
  const { VIR_DOMAIN_XML_MIGRATABLE: migratable } = constants.virDomainXMLFlags;
  const dxml = preserving(await domain.getXMLDesc(migratable));
  await domain.saveParams({ file, dxml }, constants.virDomainSaveRestoreFlags.VIR_DOMAIN_SAVE_RUNNING);
  t.equal(await domain.isActive(), false);
  t.match(await connection.domainSaveImageGetXMLDesc(file), '<on_crash>preserve</on_crash>');
});

t.test('memory is dumped into a file, and libvirt keeps saved state by itself', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-managed' }));
  await domain.createWithFlags(paused);
  const path = join(daemon().host.dir, 'dump');
  await domain.coreDump(path, memoryOnly);
  t.equal(firstBytes(path, 4), '\x7fELF');
  t.ok(statSync(path).size > 32 * 1024 ** 2, 'all the memory is in it');
  await domain.coreDumpWithFormat(`${path}-zlib`, zlib, memoryOnly);
  t.equal(firstBytes(`${path}-zlib`, 12), 'makedumpfile');

  t.equal(await domain.hasManagedSaveImage(), false);
  await domain.managedSave();
  t.equal(await domain.hasManagedSaveImage(), true);
  await domain.managedSaveDefineXML(preserving(await domain.managedSaveGetXMLDesc()));
  t.match(await domain.managedSaveGetXMLDesc(), '<on_crash>preserve</on_crash>');
  await domain.managedSaveRemove();
  t.equal(await domain.hasManagedSaveImage(), false);
});

/** A change that saved state can take. */
function preserving(xml: string): string {
  return xml.replace('<on_crash>destroy', '<on_crash>preserve');
}

function firstBytes(path: string, count: number): string {
  return readFileSync(path).toString('latin1', 0, count);
}

t.test('every method of Domain for saving was called', { skip }, (t) => called.check(t));
