/** Logging in to a daemon that a test plays. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import t, { type Test } from 'tap';
import { type ConnectOptions, connect, LibvirtError, LibvirtUsageError } from '../../src/index.ts';
import type { Frame } from '../../src/rpc/framing.ts';
import { XdrReader } from '../../src/xdr/reader.ts';
import { FakeDaemon, type Peer } from '../support/fake-daemon.ts';
import { failureOf } from '../support/outcome.ts';

const [SASL, POLKIT] = [1, 2];
const AUTH_FAILED = 45;
const CREDENTIALS = { username: 'jo', password: 's3cret' };

interface Answer {
  isComplete: boolean;
  data: Buffer | null;
}

/** A daemon that wants types of authentication. */
async function daemonThatWants(t: Test, ...types: number[]): Promise<FakeDaemon> {
  const daemon = await FakeDaemon.start();
  t.teardown(() => daemon[Symbol.asyncDispose]());
  daemon.on('authList', (peer, call) =>
    peer.reply(call, (w) => {
      w.uint(types.length);
      for (const type of types) w.int(type);
    }),
  );
  return daemon;
}

/** A daemon that wants SASL, offers mechanisms, and answers each message. */
async function saslDaemon(t: Test, mechanisms: string, answer: (said: Said) => Answer): Promise<FakeDaemon> {
  const daemon = await daemonThatWants(t, SASL ?? 1);
  daemon.on('authSaslInit', (peer, call) => peer.reply(call, (w) => w.string(mechanisms, 1_000)));
  daemon.on('authSaslStart', (peer, call) => reply(peer, call, answer(said(call, 'start'))));
  daemon.on('authSaslStep', (peer, call) => reply(peer, call, answer(said(call, 'step'))));
  return daemon;
}

interface Said {
  mechanism: string | null;
  data: Buffer | null;
}

function said(call: Frame, kind: 'start' | 'step'): Said {
  const reader = new XdrReader(call.body);
  const mechanism = kind === 'start' ? reader.string(100) : null;
  const isNull = reader.int() !== 0;
  const bytes = Array.from({ length: reader.count(65_536) }, () => reader.int());
  return { mechanism, data: isNull ? null : Buffer.from(bytes) };
}

function reply(peer: Peer, call: Frame, { isComplete, data }: Answer): void {
  peer.reply(call, (w) => {
    w.int(isComplete ? 1 : 0);
    w.int(data === null ? 1 : 0);
    w.uint(data?.length ?? 0);
    for (const byte of data ?? []) w.int(byte);
  });
}

/** SCRAM-SHA-256's server, for CREDENTIALS. @param last How its last message is changed. */
function scramServer(last: (text: string) => Answer): (said: Said) => Answer {
  const salt = Buffer.from('salt');
  const salted = pbkdf2Sync(CREDENTIALS.password, salt, 4096, 32, 'sha256');
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  let first = '';
  let bare = '';
  return ({ mechanism, data }) => {
    const text = String(data);
    if (mechanism !== null) {
      bare = text.slice('n,,'.length);
      first = `r=${/r=(.*)/.exec(text)?.[1]}server,s=${salt.toString('base64')},i=4096`;
      return { isComplete: false, data: Buffer.from(first) };
    }
    if (data === null) return { isComplete: true, data: null };
    const message = `${bare},${first},${text.replace(/,p=.*/, '')}`;
    const stored = createHash('sha256').update(hmac(salted, 'Client Key')).digest();
    const key = hmac(stored, message).map((byte, i) => byte ^ hmac(salted, 'Client Key')[i]!);
    if (!text.endsWith(Buffer.from(key).toString('base64'))) throw new Error(`wrong proof: ${text}`);
    return last(`v=${hmac(hmac(salted, 'Server Key'), message).toString('base64')}`);
  };
}

function attempt(daemon: FakeDaemon, options: ConnectOptions = {}, parameters = '') {
  const own = { socketPath: daemon.socketPath, reconnect: false, auth: CREDENTIALS, ...options } as const;
  return connect(`test:///default${parameters}`, own);
}

t.test('SCRAM succeeds whether the last message comes with the success or before it', async (t) => {
  for (const isComplete of [true, false]) {
    const server = scramServer((text) => ({ isComplete, data: Buffer.from(text) }));
    const daemon = await saslDaemon(t, 'PLAIN,SCRAM-SHA-1,SCRAM-SHA-256', server);
    await using connection = await attempt(daemon);
    t.equal(connection.state, 'connected');
    t.equal(daemon.callsOf('authSaslStep').length, isComplete ? 1 : 2);
  }
});

t.test('a daemon that calls it done without having proven itself is not believed', async (t) => {
  for (const data of [null, Buffer.from(`v=${Buffer.alloc(32).toString('base64')}`)]) {
    const server = scramServer(() => ({ isComplete: true, data }));
    const error = await failureOf(attempt(await saslDaemon(t, 'SCRAM-SHA-256', server)));
    t.match(error, { kind: data === null ? 'protocol' : 'auth' });
  }
  const early = scramServer(() => ({ isComplete: true, data: null }));
  const daemon = await saslDaemon(t, 'SCRAM-SHA-256', (each) => ({ ...early(each), isComplete: true }));
  t.match(await failureOf(attempt(daemon)), { kind: 'auth', message: /without proving/ });
});

t.test('an exchange without end is ended', async (t) => {
  const daemon = await saslDaemon(t, 'PLAIN', () => ({ isComplete: false, data: Buffer.from('more') }));
  t.match(await failureOf(attempt(daemon)), { kind: 'auth', message: /no end in 4 steps/ });
});

t.test('PLAIN sends name and password as bytes, whatever is in them', async (t) => {
  const heard: Said[] = [];
  const daemon = await saslDaemon(t, 'GSSAPI PLAIN', (each) => {
    heard.push({ ...each, data: Buffer.from(each.data ?? []) });
    return { isComplete: true, data: null };
  });
  const connection = await attempt(daemon, { auth: { username: 'jö', password: 'pä\u20acss' } });
  await connection.close();
  t.same(heard, [{ mechanism: 'PLAIN', data: Buffer.from('\0jö\0pä\u20acss') }]);
});

t.test('a mechanism that the URI demands is the one that is used, or none', async (t) => {
  const server = scramServer((text) => ({ isComplete: true, data: Buffer.from(text) }));
  const daemon = await saslDaemon(t, 'SCRAM-SHA-256,DIGEST-MD5', server);
  await (await attempt(daemon, {}, '?auth=sasl.scram-sha-256')).close();
  for (const name of ['PLAIN', 'SCRAM-SHA-1', 'DIGEST-MD5'])
    t.match(await failureOf(attempt(daemon, {}, `?auth=sasl.${name}`)), {
      kind: 'auth',
      message: `offers SCRAM-SHA-256, DIGEST-MD5; supported here are ${name}`,
    });
  t.match(await failureOf(attempt(daemon, {}, '?auth=polkit')), { kind: 'auth', message: /wants polkit/ });
});

t.test('a way to log in that is not known is an error that names it', async (t) => {
  t.match(await failureOf(attempt(await daemonThatWants(t, 9))), { kind: 'auth', message: /wants type 9/ });
  await (await attempt(await daemonThatWants(t, 9, 0))).close();
  await (await attempt(await daemonThatWants(t))).close();
});

t.test(
  'a refusal is of kind auth, with what the daemon said as its cause, and without the password',
  async (t) => {
    const daemon = await saslDaemon(t, 'PLAIN', () => ({ isComplete: true, data: null }));
    daemon.on('authSaslStart', (peer, call) => peer.refuse(call, AUTH_FAILED, 'authentication failed'));
    const error = await failureOf(attempt(daemon));
    t.match(error, { kind: 'auth', message: /refused the user name or the password \(PLAIN\)/ });
    t.ok(error.cause instanceof LibvirtError);
    t.match(error.cause, { codeName: 'VIR_ERR_AUTH_FAILED' });
    t.notMatch(`${error.stack} ${JSON.stringify(error)} ${error.cause}`, 's3cret');
    const polkit = await daemonThatWants(t, POLKIT ?? 2);
    polkit.on('authPolkit', (peer, call) => peer.refuse(call, AUTH_FAILED, 'access denied by policy'));
    t.match(await failureOf(attempt(polkit)), {
      kind: 'auth',
      message: /^polkit does not allow/,
      cause: { message: 'access denied by policy' },
    });
  },
);

t.test('a function is asked once for all channels, and again after a refusal', async (t) => {
  const requests: unknown[] = [];
  let isRight = true;
  const daemon = await saslDaemon(t, 'PLAIN', () => ({ isComplete: true, data: null }));
  daemon.on('authSaslStart', (peer, call) => {
    if (isRight) reply(peer, call, { isComplete: true, data: null });
    else peer.refuse(call, AUTH_FAILED, 'no');
  });
  const auth: ConnectOptions['auth'] = async (request) => {
    requests.push(request);
    return CREDENTIALS;
  };
  await using connection = await attempt(daemon, { auth });
  await connection.call('connectGetLibVersion', undefined);
  t.equal(daemon.callsOf('authSaslStart').length, 2);
  t.same(requests, [{ peer: daemon.socketPath, mechanism: 'PLAIN' }]);
  isRight = false;
  const call = () => connection.call('connectGetLibVersion', undefined, { role: 'long' });
  t.match(await failureOf(call()), { kind: 'auth' });
  t.equal(requests.length, 1);
  isRight = true;
  await call();
  t.equal(requests.length, 2);
});

t.test(
  'a function that fails is an auth error with its own as the cause; one that never answers times out',
  async (t) => {
    const daemon = await saslDaemon(t, 'PLAIN', () => ({ isComplete: true, data: null }));
    const thrown = new Error('the vault is closed');
    for (const auth of [
      () => Promise.reject(thrown),
      () => {
        throw thrown;
      },
    ])
      t.match(await failureOf(attempt(daemon, { auth })), {
        kind: 'auth',
        message: /gave no creden/,
        cause: thrown,
      });
    const never = () => new Promise<never>(() => {});
    t.match(await failureOf(attempt(daemon, { auth: never, callTimeoutMs: 50 })), { kind: 'timeout' });
  },
);

t.test('credentials of a wrong kind are usage errors that do not show them', async (t) => {
  const daemon = await saslDaemon(t, 'PLAIN', () => ({ isComplete: true, data: null }));
  const bad = [
    null,
    's3cret',
    {},
    { username: 'jo' },
    { username: '', password: 's3cret' },
    { username: 'jo', password: 's3cret\0' },
    { username: 'jo', password: 's3cret'.repeat(200) },
    { username: ['s3cret'], password: 's3cret' },
  ] as unknown as { username: string; password: string }[];
  for (const auth of bad) {
    for (const option of [auth, async () => auth]) {
      const error = await failureOf(attempt(daemon, { auth: option }));
      t.ok((error.cause ?? error) instanceof LibvirtUsageError, JSON.stringify(auth)?.slice(0, 40));
      t.match(error, typeof option === 'function' ? { kind: 'auth' } : LibvirtUsageError);
      t.notMatch(`${error.message}${error.cause}`, 's3cret');
    }
  }
  t.match(await failureOf(connect('test:///default', { socketPath: daemon.socketPath })), {
    kind: 'auth',
    message: /give `auth` to connect/,
  });
});
