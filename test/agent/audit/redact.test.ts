import t from 'tap';
import { summaryOf } from '../../../src/agent/audit/redact.ts';
import { METHODS, type MethodName } from '../../../src/model/methods.ts';

const shown = (method: MethodName, params: unknown) => summaryOf(METHODS[method].params, params).params;

t.test('what a schema calls write-only is left out, wherever it is', async (t) => {
  const params = {
    spec: { name: 'web', vcpus: 2, userData: '#cloud-config\nhunter2', vendorData: 'hunter2' },
  };
  const text = shown('instance.create', params);
  t.notMatch(text, /hunter2/);
  t.match(JSON.parse(text), {
    spec: { name: 'web', vcpus: 2, userData: '(secret)', vendorData: '(secret)' },
  });
});

t.test('a secret under a name that is misspelt, or that has a name like one, is left out', async (t) => {
  for (const params of [
    { spec: { userdata: 'hunter2' } },
    { password: 'hunter2' },
    { spec: { name: 'web', secretKey: { deep: ['hunter2'] } } },
    { toString: 'hunter2' },
    { spec: [{ userData: 'hunter2' }] },
  ]) {
    t.notMatch(shown('instance.create', params), /hunter2/, JSON.stringify(params));
  }
});

t.test('an address keeps its place, and loses what opens it', async (t) => {
  const source = 'https://user:hunter2@images.example:8443/a/b.qcow2?X-Amz-Signature=hunter2#hunter2';
  const text = shown('image.import', { name: 'a', source, mirrors: ['http://x:hunter2@[bad/'] });
  t.notMatch(text, /hunter2/);
  t.match(text, 'https://images.example:8443/a/b.qcow2');
});

t.test('the digest is of what is shown: it can not be used to guess at a secret', async (t) => {
  const of = (userData: string) =>
    summaryOf(METHODS['instance.create'].params, { spec: { name: 'web', userData } }).digest;
  t.equal(of('one'), of('two'));
  const named = (name: string) => summaryOf(METHODS['instance.create'].params, { spec: { name } }).digest;
  t.not(named('a'), named('b'));
});

t.test('long params are cut, and their digest is that of all of them', async (t) => {
  const keys = (last: string) => ({
    spec: { sshAuthorizedKeys: [...Array(64).fill('k'.repeat(300)), last] },
  });
  const [one, two] = ['a', 'b'].map((last) => summaryOf(METHODS['instance.create'].params, keys(last)));
  t.ok((one?.params.length ?? 0) <= 1_025);
  t.equal(one?.params, two?.params);
  t.not(one?.digest, two?.digest);
});

t.test('params that are none are summed up all the same', async (t) => {
  for (const params of [undefined, null, 7, 'text', [1], [[[]]]]) {
    t.type(shown('instance.create', params), 'string');
  }
});
