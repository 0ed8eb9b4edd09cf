/** SASL with a libvirtd of its own, whose users are in a file of its own. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ConnectOptions, connect } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { daemonMissing } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';
import { Pki, pkiMissing } from '../transport/pki.ts';
import { isInstalled, type Listening, startListeningDaemon } from '../transport/support.ts';

const CREDENTIALS = { username: 'nlt-user', password: 'p=ä,ss "word"' };

interface Lab extends Listening {
  /** Options for the unix socket. */
  unix: ConnectOptions;
  /** Options for TLS. */
  tls: ConnectOptions;
}

/** The daemon's SASL: its mechanisms, and a file of users. @returns Its folder. */
function saslFolder(t: Test, mechanisms: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'nlt-sasl-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const users = join(dir, 'sasldb');
  const add = ['-p', '-c', '-a', 'libvirt', '-f', users, CREDENTIALS.username];
  execFileSync('saslpasswd2', add, { input: CREDENTIALS.password });
  const conf = join(dir, 'conf');
  mkdirSync(conf);
  writeFileSync(
    join(conf, 'libvirt.conf'),
    `mech_list: ${mechanisms}\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: ${users}\n`,
  );
  return conf;
}

async function openLab(t: Test, mechanisms: string): Promise<Lab> {
  const pki = await Pki.create(t);
  const server = await pki.issue('nlt-server', { names: 'IP:127.0.0.1' });
  const listening = await startListeningDaemon(t, {
    ca: pki.ca,
    server,
    conf: { auth_unix_rw: 'sasl', auth_tls: 'sasl', auth_tcp: 'sasl', tls_no_verify_certificate: 1 },
    env: { SASL_CONF_PATH: saslFolder(t, mechanisms) },
  });
  const own: ConnectOptions = { reconnect: false, auth: CREDENTIALS };
  return {
    ...listening,
    unix: { ...own, socketPath: listening.daemon.socketPath },
    tls: { ...own, tls: { ca: pki.ca } },
  };
}

const skip =
  pkiMissing() || daemonMissing() || (isInstalled('saslpasswd2') ? false : 'needs saslpasswd2 of sasl2-bin');

t.test('users of SASL', { skip }, async (t) => {
  const lab = await openLab(t, 'scram-sha-512 scram-sha-256 scram-sha-1 plain');
  const { tlsPort, tcpPort, daemon } = lab;

  await t.test('each mechanism lets the right password in, on the unix socket', async (t) => {
    for (const name of ['SCRAM-SHA-512', 'SCRAM-SHA-256', 'SCRAM-SHA-1', 'PLAIN']) {
      await using connection = await connect(`test:///default?auth=sasl.${name}`, lab.unix);
      t.equal((await connection.listAllDomains()).length, 1, name);
    }
  });

  await t.test('the strongest mechanism is taken, and asked for by name', async (t) => {
    const asked: string[] = [];
    const auth: ConnectOptions['auth'] = ({ mechanism }) => {
      asked.push(mechanism);
      return CREDENTIALS;
    };
    await using connection = await connect('qemu:///system', { ...lab.unix, auth });
    await connection.listAllDomains();
    t.same(asked, ['SCRAM-SHA-512']);
  });

  await t.test('over TLS the same users come in, and PLAIN only to a server that is verified', async (t) => {
    const uri = `test+tls://127.0.0.1:${tlsPort}/default`;
    for (const parameters of ['', '?auth=sasl.PLAIN']) {
      await using connection = await connect(`${uri}${parameters}`, lab.tls);
      t.equal((await connection.listAllDomains()).length, 1);
    }
    const plain = await failureOf(connect(`${uri}?no_verify=1&auth=sasl.PLAIN`, lab.tls));
    t.match(plain, { kind: 'auth', message: /PLAIN would show the password/ });
    await (await connect(`${uri}?no_verify=1`, lab.tls)).close();
  });

  await t.test('a wrong password and an unknown user are refused, with the same words', async (t) => {
    for (const name of ['SCRAM-SHA-256', 'PLAIN'])
      for (const auth of [
        { ...CREDENTIALS, password: 'wr0ng' },
        { ...CREDENTIALS, username: 'nlt-nobody' },
      ]) {
        const error = await failureOf(connect(`test:///default?auth=sasl.${name}`, { ...lab.unix, auth }));
        t.match(error, {
          kind: 'auth',
          message: `libvirt at ${daemon.socketPath} refused the user name or the password (${name})`,
          cause: { codeName: 'VIR_ERR_AUTH_FAILED' },
        });
        t.notMatch(String(error.stack), 'wr0ng');
      }
  });

  await t.test('over bare TCP nothing is sent, and the error says what to use', async (t) => {
    const options = { reconnect: false, auth: CREDENTIALS } as const;
    const error = await failureOf(connect(`test+tcp://127.0.0.1:${tcpPort}/default`, options));
    t.match(error, { kind: 'auth', message: /use the transport tls or ssh/ });
  });

  await t.test('after the daemon was restarted the connection logs in again', async (t) => {
    const options = { ...lab.unix, reconnect: { initialMs: 10, maxMs: 100 } };
    await using connection = await connect('test:///default', options);
    const states: string[] = [];
    connection.onStateChange((state) => states.push(state));
    await daemon.restart();
    await until(() => states.includes('connected'), 'the connection is back');
    t.equal((await connection.listAllDomains()).length, 1);
  });
});
