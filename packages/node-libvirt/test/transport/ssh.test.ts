/** ssh to an sshd of its own, which leads to a libvirtd of its own. */
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ConnectOptions, connect } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { daemonMissing, type PrivateDaemon, startPrivateDaemon } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';
import { type Sshd, sshdMissing, startSshd } from './sshd.ts';
import { freePort, isInstalled } from './support.ts';

interface Lab {
  daemon: PrivateDaemon;
  sshd: Sshd;
  /** Options that are let in. */
  own: ConnectOptions;
  uri(driver: string, rest: string): string;
}

async function openLab(t: Test): Promise<Lab> {
  const daemon = await startPrivateDaemon(t);
  const sshd = await startSshd(daemon.host);
  const { keyFile, knownHostsFile, configFile, port } = sshd;
  const own: ConnectOptions = { reconnect: false, ssh: { keyFile, knownHostsFile, configFile } };
  return { daemon, sshd, own, uri: (driver, rest) => `${driver}+ssh://root@127.0.0.1:${port}/${rest}` };
}

const skip = daemonMissing() || sshdMissing();
const lab = skip === false ? await openLab(t) : null;

function test(
  name: string,
  body: (t: Test, lab: Lab) => Promise<void>,
  needs: 'nc' | 'virt-ssh-helper' | 'ssh' = 'ssh',
): void {
  const missing = isInstalled(needs) ? false : `needs ${needs}`;
  void t.test(name, { skip: skip || missing }, (t) => body(t, lab!));
}

/** Programs that this process has started and that have not ended. */
function children(): string[] {
  const lists = readdirSync('/proc/self/task').map((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8'),
  );
  const pids = lists.join(' ').split(' ').filter(Boolean);
  return pids.flatMap((pid) => {
    const name = commandOf(Number(pid));
    return name === '' || name === 'unshare' ? [] : [name];
  });
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // it has ended meanwhile
  }
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

test(
  'through virt-ssh-helper both drivers answer',
  async (t, { uri, own, sshd }) => {
    await using test = await connect(uri('test', 'default'), own);
    t.same(
      (await test.listAllDomains()).map(({ name }) => name),
      ['test'],
    );
    const parameters = `keyfile=${sshd.keyFile}&known_hosts=${sshd.knownHostsFile}&proxy=native`;
    const bare = { reconnect: false, ssh: { configFile: sshd.configFile } } as const;
    await using qemu = await connect(uri('qemu', `system?${parameters}`), bare);
    t.match(await qemu.call('connectGetType', undefined), { type: 'QEMU' });
    await using readOnly = await connect(uri('test', 'default'), { ...own, readOnly: true });
    t.match(await failureOf((await readOnly.domainLookupByName('test')).suspend()), {
      codeName: 'VIR_ERR_OPERATION_DENIED',
    });
  },
  'virt-ssh-helper',
);

test(
  'through netcat it goes to the socket that the URI names, whatever its name holds',
  async (t, { uri, own, daemon }) => {
    const path = join(daemon.host.dir, `a 'b' "c" $(touch nlt) \`d\` ;&|<>*\\`);
    symlinkSync(daemon.socketPath, path);
    for (const socket of [daemon.socketPath, path]) {
      await using connection = await connect(
        uri('test', `default?socket=${encodeURIComponent(socket)}`),
        own,
      );
      t.equal((await connection.listAllDomains()).length, 1);
    }
    t.notOk(readdirSync(daemon.host.dir).includes('nlt'));
  },
  'nc',
);

test('hundreds of calls and both kinds of channels go through it', async (t, { uri, own }) => {
  await using connection = await connect(uri('test', 'default'), own);
  const lookups = Array.from({ length: 300 }, () => connection.domainLookupByName('test'));
  t.equal(new Set((await Promise.all(lookups)).map(({ uuid }) => uuid)).size, 1);
  await connection.call('connectGetCapabilities', undefined, { role: 'long' });
  t.same(children().filter((name) => name === 'ssh').length, 3, 'control, short and long have an ssh each');
});

test('when the connection is closed no process and no descriptor is left', async (t, { uri, own }) => {
  await until(() => !children().includes('ssh'), 'those of other tests have ended');
  const before = descriptors();
  const connection = await connect(uri('test', 'default'), own);
  await connection.listAllDomains();
  t.ok(children().includes('ssh'));
  await connection.close();
  await until(() => children().length === 0, 'every ssh has ended');
  await until(() => descriptors() <= before, 'every descriptor is closed');
});

test('a host whose key is not known is refused, taken on request, and refused when it changes', async (t, l) => {
  const { uri, own, sshd } = l;
  const knownHostsFile = join(sshd.dir, 'new known hosts 100%');
  const ssh = { ...own.ssh, knownHostsFile };
  const unknown = await failureOf(
    connect(uri('test', 'default'), { ...own, ssh: { ...ssh, hostKeys: 'known' } }),
  );
  t.match(unknown, { kind: 'auth', message: /Host key verification failed/ });
  const silent = await failureOf(connect(uri('test', 'default'), { ...own, ssh }));
  t.match(silent, { kind: 'auth' }, 'nothing is asked');
  const taken = await connect(uri('test', 'default'), { ...own, ssh: { ...ssh, hostKeys: 'acceptNew' } });
  await taken.close();
  t.match(readFileSync(knownHostsFile, 'utf8'), `[127.0.0.1]:${sshd.port}`);
  const strange = readFileSync(join(sshd.dir, 'other.pub'), 'utf8');
  writeFileSync(knownHostsFile, `[127.0.0.1]:${sshd.port} ${strange}`);
  const changed = await failureOf(
    connect(uri('test', 'default'), { ...own, ssh: { ...ssh, hostKeys: 'acceptNew' } }),
  );
  t.match(changed, { kind: 'auth', message: /Host key verification failed/ });
});

test('a key that is not let in is an error that says so', async (t, { uri, own, sshd }) => {
  const ssh = { ...own.ssh, keyFile: sshd.otherKeyFile };
  const error = await failureOf(connect(uri('test', 'default'), { ...own, ssh }));
  t.match(error, { kind: 'auth', message: /ssh:\/\/root@127\.0\.0\.1:\d+: .*Permission denied/ });
});

test('what is not there is unreachable, and ssh says what it was', async (t, { uri, own }) => {
  const port = await freePort();
  const refused = await failureOf(connect(`test+ssh://127.0.0.1:${port}/default`, own));
  t.match(refused, { kind: 'unreachable', message: /Connection refused/ });
  const socket = await failureOf(connect(uri('test', 'default?socket=/nonexistent/nlt'), own));
  t.match(socket, {
    kind: 'unreachable',
    message: isInstalled('nc') ? /No such file/ : /cannot be run there/,
  });
  const netcat = await failureOf(connect(uri('test', 'default?netcat=/nonexistent/nc'), own));
  t.match(netcat, { kind: 'unreachable', message: /virt-ssh-helper or netcat cannot be run there/ });
  const program = await failureOf(
    connect(uri('test', 'default'), { ...own, ssh: { ...own.ssh, command: '/nonexistent/ssh' } }),
  );
  t.match(program, { kind: 'unreachable', message: '/nonexistent/ssh cannot be started' });
  t.same(children(), []);
});

test('after the daemon was restarted the connection comes back', async (t, { uri, own, daemon }) => {
  const options = { ...own, reconnect: { initialMs: 10, maxMs: 100 } };
  const connection = await connect(uri('test', 'default'), options);
  const causes: unknown[] = [];
  connection.onStateChange((state, cause) => causes.push(cause ?? state));
  await daemon.restart();
  await until(() => causes.includes('connected'), 'the connection is back');
  t.match(causes[0], { kind: 'closed' });
  t.equal((await connection.listAllDomains()).length, 1);
  await connection.close();
  await until(() => children().length === 0, 'every ssh has ended');
});
