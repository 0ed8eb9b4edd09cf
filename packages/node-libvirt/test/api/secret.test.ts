/** Every method of Secret, and those of Connection that are about secrets. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { Secret } from '../../src/api/secret.gen.ts';
import { Connection } from '../../src/connection.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';

const { VIR_SECRET_USAGE_TYPE_CEPH: ceph } = constants.virSecretUsageType;

const called = record(Secret);
const calledOnConnection = record(Connection, CONNECTION_SHARES, 'secrets');
const { skip, connectionTo } = await daemonForFile(t);

const UUID = randomUUID();
const USAGE = 'nac client.admin';
const XML = `<secret ephemeral='no' private='no'>
  <uuid>${UUID}</uuid><description>nac</description><usage type='ceph'><name>${USAGE}</name></usage>
</secret>`;

t.test('a secret is defined, found by all that names it, and listed', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const defined = await connection.secretDefineXML(XML);
  t.ok(defined instanceof Secret);
  const names = { uuid: UUID, usageType: ceph, usageID: USAGE };
  t.match(defined, names);
  t.equal(defined.connection, connection);
  t.match(await connection.secretLookupByUUID(UUID), names);
  t.match(await connection.secretLookupByUUIDString(UUID.toUpperCase()), names);
  t.match(await connection.secretLookupByUsage(ceph, USAGE), names);
  t.equal(await connection.numOfSecrets(), 1);
  t.strictSame(await connection.listSecrets(), [UUID]);
  t.match(await connection.listAllSecrets(), [names]);
  const { VIR_CONNECT_LIST_SECRETS_EPHEMERAL: ephemeral } = constants.virConnectListAllSecretsFlags;
  t.strictSame(await connection.listAllSecrets(ephemeral), []);
});

t.test('a value goes in and comes out byte by byte', { skip }, async (t) => {
  const secret = await (await connectionTo('qemu:///system')).secretLookupByUUID(UUID);
  t.match(await failureOf(secret.getValue()), { codeName: 'VIR_ERR_NO_SECRET' });
  const value = Uint8Array.from({ length: 257 }, (_, index) => index);
  await secret.setValue(value);
  const read = await secret.getValue();
  t.ok(read instanceof Uint8Array);
  t.strictSame(Buffer.from(read), Buffer.from(value));
  t.match(await secret.getXMLDesc(), /<description>nac<\/description>/);
});

t.test('an undefined secret is gone', { skip }, async (t) => {
  const connection = await connectionTo('qemu:///system');
  const secret = await connection.secretLookupByUUID(UUID);
  await secret.undefine();
  t.match(await failureOf(secret.getXMLDesc()), { codeName: 'VIR_ERR_NO_SECRET' });
  t.equal(await connection.numOfSecrets(), 0);
});

t.test('every method of Secret was called', { skip }, (t) => called.check(t));
t.test('every method of Connection for secrets was called', { skip }, (t) => calledOnConnection.check(t));
