/**
 * What the libvirt driver promises beyond the contract: on a real libvirtd, with real guests.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants } from 'node-libvirt';
import t from 'tap';
import type { GuestEvent } from '../../../src/drivers/contracts/hypervisor.ts';
import { METADATA_NAMESPACE } from '../../../src/drivers/libvirt/domain-xml.ts';
import { attributeOf, elementsAt, readXml } from '../../../src/drivers/host/xml-read.ts';
import { isThere, Lab, NAME_PREFIX, TEST_IMAGE, takeTime, until, whyNotHere } from './lab.ts';

const INACTIVE = constants.virDomainXMLFlags.VIR_DOMAIN_XML_INACTIVE;
const run = promisify(execFile);

takeTime(t);
const skip = await whyNotHere();
const skipBoot = skip || ((await isThere(TEST_IMAGE)) ? false : `${TEST_IMAGE} has not been built`);

t.test('a definition that is brought up to date keeps its machine type', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const definition = await lab.emptyGuest();
  await hypervisor.define(definition);
  const domain = await lab.admin.domainLookupByUUIDString(definition.id);
  const older = (await domain.getXMLDesc(INACTIVE)).replace(/machine='pc-q35-[^']+'/, "machine='pc-q35-6.0'");
  await lab.admin.domainDefineXMLFlags(older);
  await hypervisor.define({ ...definition, memoryMib: 96 });
  const root = readXml(await domain.getXMLDesc(INACTIVE));
  t.equal(attributeOf(elementsAt(root, 'os', 'type')[0]!, 'machine'), 'pc-q35-6.0');
  t.match(await hypervisor.observeGuest(definition.id), { memoryMib: 96 });
});

t.test('a disk on a file system without direct I/O is used through the page cache', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const folder = join(lab.folder, 'ram');
  await mkdir(folder);
  await run('mount', ['-t', 'ramfs', '-o', 'mode=0755', 'ramfs', folder]);
  t.teardown(() => run('umount', ['--lazy', folder]));
  const path = join(folder, 'root.raw');
  await writeFile(path, Buffer.alloc(1024 * 1024));
  const definition = await lab.emptyGuest();
  const disk = { ...definition.disks[0]!, path };
  await hypervisor.define({ ...definition, disks: [disk] });
  const domain = await lab.admin.domainLookupByUUIDString(definition.id);
  const driver = elementsAt(readXml(await domain.getXMLDesc(INACTIVE)), 'devices', 'disk', 'driver')[0]!;
  t.equal(attributeOf(driver, 'cache'), 'writeback');
  await hypervisor.start(definition.id);
  t.match(await hypervisor.observeGuest(definition.id), { power: 'running' });
  await hypervisor.destroy(definition.id);
});

t.test(
  'what others change in a definition is observed, although definitions are remembered',
  { skip },
  async (t) => {
    const lab = await Lab.open(t);
    const hypervisor = lab.driver(t);
    const definition = await lab.emptyGuest();
    await hypervisor.define(definition);
    t.match(await hypervisor.observeGuest(definition.id), { ours: true, metadata: definition.metadata });
    const domain = await lab.admin.domainLookupByUUIDString(definition.id);
    const type = constants.virDomainMetadataType.VIR_DOMAIN_METADATA_ELEMENT;
    const { VIR_DOMAIN_AFFECT_CONFIG } = constants.virDomainModificationImpact;
    const set = (xml: string | null) =>
      domain.setMetadata(type, xml, 'berth', METADATA_NAMESPACE, VIR_DOMAIN_AFFECT_CONFIG);
    const metadata = async () => (await hypervisor.observeGuest(definition.id))?.metadata;
    await set('<instance>{"generation":7}</instance>');
    await until('the changed metadata', async () => (await metadata()) === '{"generation":7}');
    await set(null);
    await until('the domain to be foreign', async () => (await metadata()) === null);
    await t.rejects(hypervisor.undefine(definition.id), { code: 'HOST_CONFLICT' }, 'and so it is left alone');
  },
);

t.test('a running guest that others undefine goes on running, and is told so', { skip }, async (t) => {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const definition = await lab.emptyGuest();
  const { id } = definition;
  await hypervisor.define(definition);
  await hypervisor.start(id);
  const told: GuestEvent[] = [];
  hypervisor.subscribe((event) => void told.push(event));
  await (await lab.admin.domainLookupByUUIDString(id)).undefineFlags();
  await until('the event', () => told.some((event) => event.type === 'power' && event.id === id));
  t.match(
    told.find((event) => event.type === 'power' && event.id === id),
    { guest: { power: 'running' } },
  );
  t.match(await hypervisor.observeGuest(id), { power: 'running', ours: true, metadata: definition.metadata });
  await hypervisor.destroy(id);
  t.equal(await hypervisor.observeGuest(id), null, 'without a definition its end is its removal');
});

t.test(
  'a UEFI guest boots, is heard, and leaves neither NVRAM nor a changed base',
  { skip: skipBoot },
  async (t) => {
    const lab = await Lab.open(t);
    const hypervisor = lab.driver(t);
    const bridge = `${NAME_PREFIX}br0`;
    await run('ip', ['link', 'add', bridge, 'type', 'bridge']);
    t.teardown(() => run('ip', ['link', 'delete', bridge]));
    await run('ip', ['link', 'set', bridge, 'up']);
    const nic = { macAddress: '52:54:00:61:62:63', bridge, tapName: `${NAME_PREFIX}tap0` };
    const definition = await lab.bootingGuest({ firmware: 'uefi', nics: [nic] });
    const { id } = definition;
    const base = definition.disks[0]!.backing!.path;
    const before = await stat(base);
    const nvramPath = `/var/lib/libvirt/qemu/nvram/${definition.name}_VARS.fd`;
    const told: GuestEvent[] = [];
    hypervisor.subscribe((event) => void told.push(event));
    await hypervisor.define(definition);
    await hypervisor.start(id);
    t.ok(await isThere(nvramPath), 'it has an NVRAM');
    t.ok(
      await isThere(`/sys/class/net/${bridge}/brif/${nic.tapName}`),
      'its tap has the name that was given',
    );
    await until('the agent', () =>
      told.some((event) => event.type === 'agent' && event.id === id && event.connected),
    );
    await until('an address', async () => (await hypervisor.guestAddresses(id)).length > 0);
    const [address] = await hypervisor.guestAddresses(id);
    t.match(address, { macAddress: nic.macAddress, address: /^(fe80:|[0-9])/ });
    const consoleLog = () => readFile(definition.consoleLogPath!, 'utf8');
    await until('its words in the log of its console', async () =>
      (await consoleLog()).includes('BERTH-GUEST-READY'),
    );
    const after = await stat(base);
    t.same(
      [after.uid, after.gid, after.mode],
      [before.uid, before.gid, before.mode],
      'the base is as it was',
    );
    await hypervisor.destroy(id);
    await hypervisor.undefine(id);
    t.notOk(await isThere(nvramPath), 'the NVRAM is gone');
  },
);
