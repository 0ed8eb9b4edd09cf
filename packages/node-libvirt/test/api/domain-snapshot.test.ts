/** Every method of DomainSnapshot, and those of Domain that are about snapshots. */
import t from 'tap';
import { DomainSnapshot } from '../../src/api/domain-snapshot.gen.ts';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, GUEST_PROGRAMS, guestXml, qcow2Disk } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { VIR_DOMAIN_SNAPSHOT_LIST_ROOTS: roots, VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS: descendants } =
  constants.virDomainSnapshotListFlags;

const called = record(DomainSnapshot);
const calledOnDomain = record(Domain, DOMAIN_SHARES, 'snapshots');
const { skip, daemon, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

const xml = (name: string) => `<domainsnapshot><name>${name}</name></domainsnapshot>`;

/** Sorted: libvirt lists snapshots in no order. */
const namesOf = (snapshots: readonly DomainSnapshot[]) => snapshots.map(({ name }) => name).toSorted();

t.test('a domain that is off', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const devices = await qcow2Disk(daemon().host, 'vda', ['nad-snapshots']);
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-snapshots', devices }));

  await t.test('has no snapshots at first', async (t) => {
    t.equal(await domain.hasCurrentSnapshot(), false);
    t.equal(await domain.snapshotNum(), 0);
    t.strictSame(await domain.snapshotListNames(), []);
    t.strictSame(await domain.listAllSnapshots(), []);
    t.match(await failureOf(domain.snapshotCurrent()), { codeName: 'VIR_ERR_NO_DOMAIN_SNAPSHOT' });
  });

  await t.test('gets snapshots, each the child of the one before', async (t) => {
    const first = await domain.snapshotCreateXML(xml('first'));
    t.ok(first instanceof DomainSnapshot);
    t.match(first, { name: 'first', dom: { name: domain.name, uuid: domain.uuid } });
    t.ok(first.dom instanceof Domain);
    t.equal(first.connection, connection);
    await domain.snapshotCreateXML(xml('second'));
    await domain.snapshotCreateXML(xml('third'));
    t.equal(await domain.snapshotNum(), 3);
    t.equal(await domain.snapshotNum(roots), 1);
    t.strictSame((await domain.snapshotListNames()).toSorted(), ['first', 'second', 'third']);
    t.strictSame(namesOf(await domain.listAllSnapshots()), ['first', 'second', 'third']);
    t.strictSame(namesOf(await domain.listAllSnapshots(roots)), ['first']);
  });

  await t.test('finds them again, with their relations', async (t) => {
    t.equal(await domain.hasCurrentSnapshot(), true);
    t.equal((await domain.snapshotCurrent()).name, 'third');
    const second = await domain.snapshotLookupByName('second');
    t.match(await second.getXMLDesc(), '<name>second</name>');
    t.equal(await second.isCurrent(), false);
    t.equal(await second.hasMetadata(), true);
    t.equal((await second.getParent()).name, 'first');
    const first = await second.getParent();
    t.match(await failureOf(first.getParent()), { codeName: 'VIR_ERR_NO_DOMAIN_SNAPSHOT' });
    t.equal(await first.numChildren(), 1);
    t.equal(await first.numChildren(descendants), 2);
    t.strictSame(await first.listChildrenNames(), ['second']);
    t.strictSame(namesOf(await first.listAllChildren(descendants)), ['second', 'third']);
  });

  await t.test('goes back to one, and loses others', async (t) => {
    const first = await domain.snapshotLookupByName('first');
    await first.revertToSnapshot();
    t.equal(await first.isCurrent(), true);
    const third = await domain.snapshotLookupByName('third');
    await third.delete();
    t.match(await failureOf(third.getXMLDesc()), { codeName: 'VIR_ERR_NO_DOMAIN_SNAPSHOT' });
    const { VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN: withChildren } = constants.virDomainSnapshotDeleteFlags;
    await first.delete(withChildren);
    t.equal(await domain.snapshotNum(), 0);
  });
});

t.test('every method of DomainSnapshot was called', { skip }, (t) => called.check(t));
t.test('every method of Domain for snapshots was called', { skip }, (t) => calledOnDomain.check(t));
