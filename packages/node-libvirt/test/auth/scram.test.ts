/** SCRAM by the examples of its RFCs, and against servers that lie. */
import t from 'tap';
import { SaslError } from '../../src/auth/mechanism.ts';
import { saslprep } from '../../src/auth/saslprep.ts';
import { ScramClient, type ScramName } from '../../src/auth/scram.ts';
import { LibvirtUsageError } from '../../src/errors.ts';
import { failureOf } from '../support/outcome.ts';

const CREDENTIALS = { username: 'user', password: 'pencil' };

/** An exchange from a specification. */
interface Example {
  name: ScramName;
  nonce: string;
  first: string;
  final: string;
  last: string;
}

/** @see RFC 7677, 3; RFC 5802, 5 */
const SHA_256: Example = {
  name: 'SCRAM-SHA-256',
  nonce: 'rOprNGfwEbeRWgbNEkqO',
  first: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  final:
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  last: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
};
const SHA_1: Example = {
  name: 'SCRAM-SHA-1',
  nonce: 'fyko+d2lbbFgONRv9qkxdawL',
  first: 'r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096',
  final: 'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
  last: 'v=rmF9pqV8S7suAoZWja4dJRkFsKQ=',
};

function clientOf({ name, nonce }: Example): ScramClient {
  return new ScramClient(name, CREDENTIALS, nonce);
}

/** What the client says when the server's messages are these, and the client. */
async function exchange(example: Example, ...messages: (string | null)[]) {
  const client = clientOf(example);
  const said = [String(client.start())];
  for (const message of messages)
    said.push(String(await client.step(message === null ? null : Buffer.from(message))));
  return { client, said };
}

/** The error of an exchange that has to fail. */
async function failure(...messages: (string | null)[]): Promise<SaslError> {
  const error = await failureOf(exchange(SHA_256, ...messages));
  if (!(error instanceof SaslError)) throw error;
  return error;
}

t.test('the exchanges of the specifications come out as they are there', async (t) => {
  for (const example of [SHA_256, SHA_1]) {
    const { client, said } = await exchange(example, example.first, example.last);
    t.same(said, [`n,,n=user,r=${example.nonce}`, example.final, 'null']);
    t.ok(client.isDone);
  }
});

t.test('the client is not done before the server has proven itself', async (t) => {
  const { client } = await exchange(SHA_256, SHA_256.first);
  t.notOk(client.isDone);
});

t.test('a server that does not know the password is found out', async (t) => {
  const wrong = await failure(SHA_256.first, `v=${Buffer.alloc(32).toString('base64')}`);
  t.match(wrong, { kind: 'auth', message: /does not know the password/ });
  t.equal((await failure(SHA_256.first, 'v=AAAA')).kind, 'auth');
  t.match(await failure(SHA_256.first, 'e=invalid-proof'), { kind: 'auth', message: /refused/ });
});

t.test('messages that no server sends are told apart from refusals', async (t) => {
  const { nonce, first } = SHA_256;
  for (const bad of [
    null,
    '',
    'r=',
    first.replace(nonce, 'other'),
    `r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`,
    first.replace('i=4096', 'i=4095'),
    first.replace('i=4096', 'i=1000001'),
    first.replace('i=4096', 'i=04096'),
    first.replace('i=4096', 'i=-4096'),
    first.replace('i=4096', 'i=9'.padEnd(40, '9')),
    first.replace(/s=[^,]*/, 's='),
    first.replace(/s=[^,]*/, 's=!!!!'),
    `m=x,${first}`,
    `${first},${'x'.repeat(5000)}`,
  ])
    t.equal((await failure(bad)).kind, 'protocol', JSON.stringify(bad)?.slice(0, 60));
  for (const bad of [null, '', 'v=', 'v=!', 'x=1'])
    t.ok(['protocol', 'auth'].includes((await failure(first, bad)).kind), String(bad));
});

t.test('each exchange has a nonce of its own', async (t) => {
  const nonces = [1, 2, 3].map(() => String(new ScramClient('SCRAM-SHA-256', CREDENTIALS).start()));
  t.equal(new Set(nonces).size, 3);
});

t.test('signs that SCRAM uses itself are written otherwise in a name', async (t) => {
  const client = new ScramClient('SCRAM-SHA-1', { username: 'a,b=c', password: 'x' }, 'nonce');
  t.equal(String(client.start()), 'n,,n=a=2Cb=3Dc,r=nonce');
});

t.test('text is brought into one form, and what is forbidden is not shown', async (t) => {
  t.equal(saslprep('pencil', 'password'), 'pencil');
  t.equal(saslprep('I\u00adX', 'password'), 'IX');
  t.equal(saslprep('\u2168', 'password'), 'IX');
  t.equal(saslprep('a\u00a0b', 'password'), 'a b');
  t.equal(saslprep('\u0041\u030a', 'password'), '\u00c5');
  for (const bad of ['s3cret\u0007', '\u00ad', '\ue000', '\ud800x']) {
    t.throws(() => saslprep(bad, 'password'), LibvirtUsageError);
    t.notMatch(await failureOf((async () => saslprep(bad, 'password'))()), /s3cret/);
  }
});
