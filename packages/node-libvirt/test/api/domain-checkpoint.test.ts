/** Every method of DomainCheckpoint, and those of Domain that are about checkpoints. */
import t from 'tap';
import { DomainCheckpoint } from '../../src/api/domain-checkpoint.gen.ts';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, GUEST_PROGRAMS, guestXml, qcow2Disk } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const called = record(DomainCheckpoint);
const calledOnDomain = record(Domain, DOMAIN_SHARES, 'checkpoints');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

const xml = (name: string) => `<domaincheckpoint><name>${name}</name></domaincheckpoint>`;

/** Sorted: libvirt lists checkpoints in no order. */
const namesOf = (checkpoints: readonly DomainCheckpoint[]) => checkpoints.map(({ name }) => name).toSorted();

t.test('a domain that runs remembers what changes on its disk', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const devices = await qcow2Disk(daemon().host, 'vda', ['nad-checkpoints']);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-checkpoints', devices }));
  await domain.createWithFlags(constants.virDomainCreateFlags.VIR_DOMAIN_START_PAUSED);
  t.strictSame(await domain.listAllCheckpoints(), []);

  await t.test('since checkpoints, each the child of the one before', async (t) => {
    const first = await domain.checkpointCreateXML(xml('first'));
    t.ok(first instanceof DomainCheckpoint);
    t.match(first, { name: 'first', dom: { name: domain.name, uuid: domain.uuid } });
    t.equal(first.connection, connection);
    await domain.checkpointCreateXML(xml('second'));
    await domain.checkpointCreateXML(xml('third'));
    t.strictSame(namesOf(await domain.listAllCheckpoints()), ['first', 'second', 'third']);
    const { VIR_DOMAIN_CHECKPOINT_LIST_ROOTS: roots } = constants.virDomainCheckpointListFlags;
    t.strictSame(namesOf(await domain.listAllCheckpoints(roots)), ['first']);
  });

  await t.test('which are found again, with their relations', async (t) => {
    const second = await domain.checkpointLookupByName('second');
    t.match(await second.getXMLDesc(), '<name>second</name>');
    const { VIR_DOMAIN_CHECKPOINT_XML_SIZE: size } = constants.virDomainCheckpointXMLFlags;
    t.match(await second.getXMLDesc(size), /<disk name='vda'[^>]* size='0'\/>/);
    const first = await second.getParent();
    t.equal(first.name, 'first');
    t.match(await failureOf(first.getParent()), { codeName: 'VIR_ERR_NO_DOMAIN_CHECKPOINT' });
    t.strictSame(namesOf(await first.listAllChildren()), ['second']);
    const { VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS: descendants } = constants.virDomainCheckpointListFlags;
    t.strictSame(namesOf(await first.listAllChildren(descendants)), ['second', 'third']);
  });

  await t.test('until they are deleted', async (t) => {
    const first = await domain.checkpointLookupByName('first');
    await first.delete();
    t.match(await failureOf(first.getXMLDesc()), { codeName: 'VIR_ERR_NO_DOMAIN_CHECKPOINT' });
    t.strictSame(namesOf(await domain.listAllCheckpoints()), ['second', 'third']);
    const { VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN: withChildren } = constants.virDomainCheckpointDeleteFlags;
    await (await domain.checkpointLookupByName('second')).delete(withChildren);
    t.strictSame(await domain.listAllCheckpoints(), []);
  });
});

t.test('every method of DomainCheckpoint was called', { skip }, (t) => called.check(t));
t.test('every method of Domain for checkpoints was called', { skip }, (t) => calledOnDomain.check(t));
