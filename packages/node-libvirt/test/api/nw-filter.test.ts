/** Every method of NwFilter and NwFilterBinding, and those of Connection that are about network filters. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { NwFilter } from '../../src/api/nw-filter.gen.ts';
import { NwFilterBinding } from '../../src/api/nw-filter-binding.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_NWFILTER_DEFINE_VALIDATE: defineChecked } = constants.virNWFilterDefineFlags;
const { VIR_NWFILTER_BINDING_CREATE_VALIDATE: createChecked } = constants.virNWFilterBindingCreateFlags;

const called = record(NwFilter);
const calledOnBindings = record(NwFilterBinding);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'network filters');
const { skip, daemon, connectionTo } = await daemonForFile(t, { network: 'own' }, ['ebtables']);

const system = () => connectionTo('qemu:///system');
const UUID = randomUUID();
const filterXml = (name: string, uuid: string) => `<filter name='${name}' chain='root'><uuid>${uuid}</uuid>
  <rule action='drop' direction='out' priority='500'><mac match='no' srcmacaddr='$MAC'/></rule>
</filter>`;
const bindingXml = (portdev: string) => `<filterbinding>
  <owner><name>nac-guest</name><uuid>${randomUUID()}</uuid></owner>
  <portdev name='${portdev}'/><mac address='02:00:00:6e:61:63'/><filterref filter='nac-filter'/>
</filterbinding>`;

t.test('a filter is defined, found by all that names it, and listed', { skip }, async (t) => {
  const connection = await system();
  const filter = await connection.nwFilterDefineXML(filterXml('nac-filter', UUID));
  t.ok(filter instanceof NwFilter);
  const names = { name: 'nac-filter', uuid: UUID };
  t.match(filter, names);
  t.match(await filter.getXMLDesc(), /srcmacaddr='\$MAC'/);
  t.match(await connection.nwFilterLookupByName('nac-filter'), names);
  t.match(await connection.nwFilterLookupByUUID(UUID), names);
  t.match(await connection.nwFilterLookupByUUIDString(UUID.toUpperCase()), names);
  t.equal(await connection.numOfNWFilters(), 1);
  t.strictSame(await connection.listNWFilters(), ['nac-filter']);
  t.match(await connection.listAllNWFilters(), [names]);
});

t.test('a filter is defined with its XML checked, and undefined', { skip }, async (t) => {
  const connection = await system();
  const wrong = filterXml('nac-wrong', randomUUID()).replace('<rule', '<nac/><rule');
  t.match(await failureOf(connection.nwFilterDefineXMLFlags(wrong, defineChecked)), {
    codeName: 'VIR_ERR_XML_INVALID_SCHEMA',
  });
  const filter = await connection.nwFilterDefineXMLFlags(
    filterXml('nac-checked', randomUUID()),
    defineChecked,
  );
  t.equal(filter.name, 'nac-checked');
  await filter.undefine();
  t.match(await failureOf(filter.getXMLDesc()), { codeName: 'VIR_ERR_NO_NWFILTER' });
});

t.test('a filter is bound to a network device, and the device is let go', { skip }, async (t) => {
  const connection = await system();
  await daemon().host.run('ip', 'tuntap', 'add', 'nactap0', 'mode', 'tap');
  const binding = await connection.nwFilterBindingCreateXML(bindingXml('nactap0'), createChecked);
  t.ok(binding instanceof NwFilterBinding);
  const names = { portdev: 'nactap0', filtername: 'nac-filter' };
  t.match(binding, names);
  const rules = async () => (await daemon().host.run('ebtables', '-t', 'nat', '-L')).stdout;
  t.match(await rules(), /nactap0/, 'the kernel has its rules');
  t.match(await binding.getXMLDesc(), /<portdev name='nactap0'\/>/);
  t.match(await connection.nwFilterBindingLookupByPortDev('nactap0'), names);
  t.match(await connection.listAllNWFilterBindings(), [names]);
  await binding.delete();
  t.notMatch(await rules(), /nactap0/);
  t.strictSame(await connection.listAllNWFilterBindings(), []);
  t.match(await failureOf(binding.getXMLDesc()), { codeName: 'VIR_ERR_NO_NWFILTER_BINDING' });
});

t.test('every method of NwFilter was called', { skip }, (t) => called.check(t));
t.test('every method of NwFilterBinding was called', { skip }, (t) => calledOnBindings.check(t));
t.test('every method of Connection for filters was called', { skip }, (t) => calledOnConnection.check(t));
