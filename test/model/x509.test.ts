/** DER and certificate requests: what is written is what OpenSSL reads, and what is hostile is refused. */
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { AgentError } from '../../src/model/errors.ts';
import { integer, readAll, readOne, sequence, TAG, time, tlv } from '../../src/model/x509/der.ts';
import { nodeOfCertificate } from '../../src/model/x509/names.ts';
import { makeRequest, readRequest } from '../../src/model/x509/request.ts';
import fc from '../property.ts';

const NODE = '3f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c';
const OTHER = '11111111-2222-4333-8444-555555555555';
const keys = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

t.test('what is written as DER is read again, of every length', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70_000 }), (bytes) => {
      const whole = tlv(TAG.octetString, bytes);
      return readOne(whole, TAG.octetString).content.equals(Buffer.from(bytes));
    }),
    { numRuns: 50 },
  );
});

t.test('hostile bytes are an error of the caller, and nothing else', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        readRequest(Buffer.from(bytes), NODE);
        return false;
      } catch (error) {
        return error instanceof AgentError && error.code === 'INVALID_ARGUMENT';
      }
    }),
    { numRuns: 500 },
  );
});

t.test('a length that lies, is not the shortest, or is without end is refused', async (t) => {
  for (const hex of ['30', '3005', '308105', '30820001aa', '3080aa0000', '30ff', '3084ffffffff']) {
    t.throws(() => readAll(Buffer.from(hex, 'hex')), { code: 'INVALID_ARGUMENT' }, hex);
  }
});

t.test('numbers keep their sign, and times their century', async (t) => {
  t.equal(integer(Buffer.from([0, 0, 0x80])).toString('hex'), '02020080');
  t.equal(integer(Buffer.from([0])).toString('hex'), '020100');
  t.match(time(Date.parse('2049-12-31T23:59:59Z')).toString('latin1'), '491231235959Z');
  t.match(time(Date.parse('2050-01-01T00:00:00Z')).toString('latin1'), '20500101000000Z');
});

t.test('a request is one that OpenSSL takes, signed by its key', async (t) => {
  const request = makeRequest(NODE, keys());
  const { stdout, stderr, status } = spawnSync(
    'openssl',
    ['req', '-inform', 'der', '-verify', '-noout', '-subject'],
    {
      input: request,
      encoding: 'utf8',
    },
  );
  t.equal(status, 0);
  t.match(`${stdout}${stderr}`, /verify OK/);
  t.match(`${stdout}${stderr}`, NODE);
});

t.test('a request for another node, by another kind of key, or changed on its way is refused', async (t) => {
  const request = makeRequest(NODE, keys());
  t.doesNotThrow(() => readRequest(request, NODE));
  t.throws(() => readRequest(request, OTHER), /not for node/);
  for (const at of [20, 60, 150, request.length - 1]) {
    const changed = Buffer.from(request);
    changed[at] = (changed[at] as number) ^ 1;
    t.throws(() => readRequest(changed, NODE), { code: 'INVALID_ARGUMENT' }, `byte ${at}`);
  }
  const p384 = makeRequest(NODE, generateKeyPairSync('ec', { namedCurve: 'secp384r1' }));
  t.throws(() => readRequest(p384, NODE), /P-256/);
  const rsa = makeRequest(NODE, generateKeyPairSync('rsa', { modulusLength: 2048 }));
  t.throws(() => readRequest(rsa, NODE), /P-256/);
  t.throws(() => readRequest(sequence(Buffer.alloc(5_000)), NODE), /more than/);
});

t.test('a key that somebody else has can not be asked a certificate for', async (t) => {
  const victim = keys();
  const stolen = makeRequest(NODE, { publicKey: victim.publicKey, privateKey: keys().privateKey });
  t.throws(() => readRequest(stolen, NODE), /not by its key/);
});

t.test('a certificate names one node, and nothing that looks like one', async (t) => {
  t.equal(nodeOfCertificate(`DNS:a, URI:berth:node:${NODE}`), NODE);
  for (const names of [
    undefined,
    '',
    'DNS:a',
    `DNS:berth:node:${NODE}`,
    `URI:berth:node:${NODE}, URI:berth:node:${OTHER}`,
    `URI:berth:node:${NODE}x`,
    `URI:"berth:node:${NODE}"`,
    `DNS:"a, URI:berth:node:${NODE}"`,
    `DNS:"a, URI:berth:node:${NODE}, DNS:b"`,
    'URI:berth:node:',
  ]) {
    t.throws(() => nodeOfCertificate(names), { code: 'PERMISSION_DENIED' }, names ?? 'none');
  }
});
