/** How functions of libvirt's public API become methods. */
import t from 'tap';
import { readApiDescription } from '../../tools/api-description.ts';
import { methodName, type PlannedMethod, planApi } from '../../tools/api-plan.ts';
import { CLASSES } from '../../tools/api-rules.ts';
import { emptyProtocol, parseRpcl } from '../../tools/rpcl.ts';

const PROTOCOL = `
const REMOTE_PARAMS_MAX = 16;
const REMOTE_LIST_MAX = 256;
struct remote_nonnull_domain { remote_nonnull_string name; remote_uuid uuid; int id; };
struct remote_domain_set_note_args { remote_nonnull_domain dom; remote_string note_text; unsigned int flags; };
struct remote_domain_get_note_params_args { remote_nonnull_domain dom; int nparams; unsigned int flags; };
struct remote_domain_get_note_params_ret { remote_typed_param params<REMOTE_PARAMS_MAX>; int nparams; };
struct remote_domain_is_noted_args { remote_nonnull_domain dom; };
struct remote_domain_is_noted_ret { int noted; };
struct remote_connect_list_all_domains_args { int need_results; unsigned int flags; };
struct remote_connect_list_all_domains_ret { remote_nonnull_domain domains<REMOTE_LIST_MAX>; unsigned int ret; };
enum remote_procedure {
  /** @generate: both */
  REMOTE_PROC_DOMAIN_SET_NOTE = 1,
  /** @generate: none */
  REMOTE_PROC_DOMAIN_GET_NOTE_PARAMS = 2,
  /** @generate: both
   *  @priority: high */
  REMOTE_PROC_DOMAIN_IS_NOTED = 3,
  /** @generate: both
   *  @priority: high */
  REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS = 4
};`;

const fn = (name: string, ...args: string[]) =>
  `<function name='${name}' file='libvirt-domain' module='m' version='1.2.3'>${args.join('')}</function>`;
const arg = (name: string, type: string, info = '') => `<arg name='${name}' type='${type}' info='${info}'/>`;
const DOMAIN = arg('domain', 'virDomainPtr');
const FLAGS = arg('flags', 'unsigned int', 'bitwise-OR of virDomainNoteFlags');
const ENUM = `<enum name='VIR_DOMAIN_NOTE_LOUD' value='VIR_ONE' type='virDomainNoteFlags' info='Aloud (Since: 1.2.3).
  More words.'/><enum name='VIR_ONE' value='1'/>`;

function plan(...functions: string[]): PlannedMethod[] {
  const protocol = emptyProtocol();
  parseRpcl(PROTOCOL, protocol);
  return planApi(readApiDescription([ENUM + functions.join('')]), protocol).methods;
}

t.test('a method has the name of its function without the prefix of its class', (t) => {
  const names: Record<string, [string, string]> = {
    virDomainGetXMLDesc: ['Domain', 'getXMLDesc'],
    virDomainPMSuspendForDuration: ['Domain', 'pmSuspendForDuration'],
    virDomainFSFreeze: ['Domain', 'fsFreeze'],
    virNodeGetInfo: ['Connection', 'nodeGetInfo'],
    virNWFilterLookupByName: ['Connection', 'nwFilterLookupByName'],
    virConnectListAllDomains: ['Connection', 'listAllDomains'],
    virStorageVolCreateXML: ['StoragePool', 'storageVolCreateXML'],
    virDomainSnapshotNum: ['Domain', 'snapshotNum'],
    virDomainRevertToSnapshot: ['DomainSnapshot', 'revertToSnapshot'],
    virDomainSnapshotDelete: ['DomainSnapshot', 'delete'],
  };
  for (const [name, [owner, method]] of Object.entries(names)) {
    const found = CLASSES.find((one) => one.name === owner);
    t.equal(found && methodName(name, found), method);
  }
  t.end();
});

t.test('the object is sent as it is, and what may be absent has a default', (t) => {
  const [method] = plan(fn('virDomainSetNote', DOMAIN, arg('noteText', 'const char *'), FLAGS));
  t.same(method?.args, [
    ['dom', 'this'],
    ['note_text', 'noteText'],
    ['flags', 'flags'],
  ]);
  t.match(method?.parameters, [
    { name: 'noteText', defaultValue: 'null', enumType: null },
    { name: 'flags', defaultValue: '0', enumType: 'virDomainNoteFlags' },
  ]);
  t.match(method, { name: 'setNote', role: 'long', result: { kind: 'nothing' } });
  t.end();
});

t.test('typed parameters are asked for after their number', (t) => {
  const [method] = plan(fn('virDomainGetNoteParams', DOMAIN, FLAGS));
  t.match(method, { countFrom: 'ownReply', result: { kind: 'typedParams', field: { name: 'params' } } });
  t.same(
    method?.parameters.map(({ name }) => name),
    ['flags'],
  );
  t.end();
});

t.test('a question is answered by a boolean, on the channels for calls that never wait', (t) => {
  const [method] = plan(fn('virDomainIsNoted', DOMAIN));
  t.match(method, { name: 'isNoted', role: 'short', result: { kind: 'boolean' } });
  t.end();
});

t.test('a list comes whole, as objects', (t) => {
  const [method] = plan(fn('virConnectListAllDomains', arg('conn', 'virConnectPtr'), FLAGS));
  t.match(method, { class: { name: 'Connection' }, result: { kind: 'objects', field: { name: 'domains' } } });
  t.same(method?.args, [
    ['need_results', '1'],
    ['flags', 'flags'],
  ]);
  t.end();
});

t.test('a function that nothing is known about stops the generator', (t) => {
  t.throws(() => plan(fn('virDomainGetFuture', DOMAIN)), /virDomainGetFuture has no procedure/);
  t.throws(() => plan(fn('virFutureGet', arg('future', 'virFuturePtr'))), /virFutureGet has no class/);
  t.end();
});

t.test('a constant has its number, also by way of another, and the first sentence of its meaning', (t) => {
  const { enums } = readApiDescription([ENUM]);
  t.same(enums.get('virDomainNoteFlags'), [{ name: 'VIR_DOMAIN_NOTE_LOUD', value: 1, meaning: 'Aloud.' }]);
  t.throws(() => readApiDescription(["<enum name='A' value='B' type='T'/>"]), /constant B has no value/);
  t.end();
});
