/** libvirt's URIs: what they mean, and what is refused before anything is opened. */
import t from 'tap';
import { LibvirtUsageError } from '../src/errors.ts';
import type { SshEndpoint } from '../src/transport/endpoint.ts';
import { type LocalUser, parseUri } from '../src/uri.ts';
import fc from './support/property.ts';

const ROOT: LocalUser = { isRoot: true, socketDir: '/root/.cache/libvirt' };
const USER: LocalUser = { isRoot: false, socketDir: '/run/user/1000/libvirt' };

function read(uri: string, user = ROOT) {
  return parseUri(uri, 'readWrite', user);
}

function socketsOf(uri: string, user = ROOT, access: 'readWrite' | 'readOnly' = 'readWrite') {
  const { endpoint } = parseUri(uri, access, user);
  if (endpoint.transport !== 'unix') throw new Error(`${uri} is of transport ${endpoint.transport}`);
  return endpoint.socketPaths;
}

function sshOf(uri: string, access: 'readWrite' | 'readOnly' = 'readWrite'): SshEndpoint {
  const { endpoint } = parseUri(uri, access, ROOT);
  if (endpoint.transport !== 'ssh') throw new Error(`${uri} is of transport ${endpoint.transport}`);
  return endpoint;
}

/** The message of the usage error that a URI causes. */
function refusal(uri: unknown): string {
  try {
    read(uri as string);
  } catch (error) {
    if (error instanceof LibvirtUsageError) return error.message;
    throw error;
  }
  throw new Error(`${uri} was accepted`);
}

t.test('a local URI means the driver’s own socket, and libvirtd’s where that does not exist', async (t) => {
  t.same(read('qemu:///system'), {
    uri: 'qemu:///system',
    endpoint: {
      transport: 'unix',
      socketPaths: ['/run/libvirt/virtqemud-sock', '/run/libvirt/libvirt-sock'],
    },
    auth: null,
  });
  t.same(socketsOf('network:///system'), ['/run/libvirt/virtnetworkd-sock', '/run/libvirt/libvirt-sock']);
  t.same(socketsOf('qemu+unix:///system', ROOT, 'readOnly'), [
    '/run/libvirt/virtqemud-sock-ro',
    '/run/libvirt/libvirt-sock-ro',
  ]);
});

t.test('mode says which kind of daemon, and socket which one', async (t) => {
  t.same(socketsOf('qemu:///system?mode=legacy'), ['/run/libvirt/libvirt-sock']);
  t.same(socketsOf('qemu:///system?mode=direct'), ['/run/libvirt/virtqemud-sock']);
  t.same(socketsOf('qemu:///system?MODE=auto').length, 2);
  t.same(socketsOf('qemu:///system?socket=/srv/a%20b/sock'), ['/srv/a b/sock']);
  t.match(refusal('qemu:///system?mode=other'), /mode .* one of auto, legacy, direct, not other/);
  t.match(refusal('qemu:///system?socket=sock'), /socket .* absolute path/);
});

t.test('a session is a user’s own; root has only the system’s daemons', async (t) => {
  const dir = '/run/user/1000/libvirt';
  t.same(socketsOf('qemu:///session', USER), [`${dir}/virtqemud-sock`, `${dir}/libvirt-sock`]);
  t.same(socketsOf('qemu:///session', USER, 'readOnly'), socketsOf('qemu:///session', USER));
  t.same(socketsOf('test+unix:///default', USER), [`${dir}/virttestd-sock`, `${dir}/libvirt-sock`]);
  t.same(socketsOf('qemu:///session', ROOT), socketsOf('qemu:///system', ROOT));
  t.same(socketsOf('qemu:///system', USER), socketsOf('qemu:///system', ROOT));
});

t.test('a host without transport means TLS, and each transport has its port', async (t) => {
  t.same(read('qemu://host.example/system').endpoint, {
    transport: 'tls',
    host: 'host.example',
    port: 16_514,
    verify: true,
    pkiPath: null,
  });
  t.match(read('qemu+tls:///system?pkipath=/srv/pki&no_verify=1').endpoint, {
    host: 'localhost',
    verify: false,
    pkiPath: '/srv/pki',
  });
  t.match(read('qemu+tls://h/system?no_verify=0&no_sanity=1').endpoint, { verify: true });
  t.same(read('test+TCP://h/default').endpoint, { transport: 'tcp', host: 'h', port: 16_509 });
  t.match(read('test+tcp://:5000/default').endpoint, { host: 'localhost', port: 5000 });
});

t.test('hosts are names and addresses of both kinds', async (t) => {
  const hostOf = (host: string) => (read(`qemu+tcp://${host}/system`).endpoint as { host: string }).host;
  t.equal(hostOf('[::1]:16509'), '::1');
  t.equal(hostOf('[fe80::1%25eth0]'), 'fe80::1%eth0');
  t.equal(hostOf('192.0.2.1:1'), '192.0.2.1');
  t.equal(hostOf('a-b.c_d.example'), 'a-b.c_d.example');
  t.equal(hostOf('%68ost'), 'host');
  for (const bad of [
    '[::1',
    '::1',
    '[host]',
    '[::1%25-x]',
    'a b',
    '-oProxyCommand=id',
    '%2doProxyCommand',
    'a;b',
    'a%24(id)',
    'a%00b',
    'a%0ab',
    'ho%zzst',
    '%ff',
    'a'.repeat(254),
    'h:0',
    'h:65536',
    'h:',
    'h:1x',
    'a@b@c',
  ])
    t.ok(refusal(`qemu+ssh://${bad}/system`), bad);
});

t.test('what is not a libvirt URI is refused', async (t) => {
  for (const bad of [
    '',
    'qemu',
    'qemu:',
    'qemu:/system',
    'qemu://',
    'qemu://host',
    '://h/',
    'qemu+://h/s',
    'qemu:///sys tem',
    'qemu:///sys\ntem',
    'qemu:///sys\0tem',
    'qemu:///ä',
    'qemu:///a%00b',
    'qemu:///a%0ab',
    'qemu:///a%zz',
    'qemu:///system?=x',
    'qemu:///system?a=%00',
    'qemu:///system?a;b',
    `qemu:///${'x'.repeat(9000)}`,
  ])
    t.ok(refusal(bad), JSON.stringify(bad.slice(0, 30)));
  for (const bad of [undefined, null, 7, {}, ['qemu:///system']]) t.match(refusal(bad), /is a string/);
});

t.test(
  'no text causes anything but a usage error, and what is accepted holds nothing for a shell',
  async (t) => {
    const piece = fc.constantFrom(
      'qemu',
      '+ssh',
      '+tls',
      '://',
      '/',
      '@',
      ':',
      '[',
      ']',
      '?',
      '=',
      '&',
      '#',
      '%00',
      '%2d',
      '-',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string(),
      fc.array(piece).map((each) => each.join('')),
    );
    const whole = fc.tuple(text, text, text).map(([a, b, c]) => `qemu+ssh://${a}@${b}/${c}`);
    fc.assert(
      fc.property(fc.oneof(text, whole), (uri) => {
        try {
          const { endpoint } = read(uri);
          if (endpoint.transport === 'ssh')
            t.match(`${endpoint.user ?? 'x'}${endpoint.host}`, /^\w[\w.@+:%-]*$/);
        } catch (error) {
          if (!(error instanceof LibvirtUsageError)) throw error;
        }
      }),
      { numRuns: 5_000 },
    );
  },
);

t.test('drivers and transports that are not here are named as such', async (t) => {
  t.match(refusal('vmware:///session'), /driver vmware is not one of qemu, test/);
  t.match(refusal('esx://host/'), /driver esx/);
  t.match(refusal('qemu:///embed?root=/x'), /inside libvirt's client library only/);
  for (const transport of ['ext', 'libssh', 'libssh2', 'rdma'])
    t.equal(
      refusal(`qemu+${transport}://h/system`),
      `transport ${transport} is not supported: unix, tcp, tls, ssh are`,
    );
  t.match(refusal('qemu+unix://host/system'), /must not name one/);
});

t.test('parameters of the client stay here, and the others go to the daemon', async (t) => {
  t.equal(
    read('qemu://h/system?no_verify=1&foo=a%26b&mode2&pkipath=/x').uri,
    'qemu:///system?foo=a%26b&mode2=',
  );
  t.equal(read('qemu:///system?socket=/x&mode=auto').uri, 'qemu:///system');
  t.equal(read('test:///srv/a%20b.xml#part').uri, 'test:///srv/a%20b.xml#part');
  t.equal(read('qemu+tcp://h/system?name=test%3a///default').uri, 'test:///default');
});

t.test('a parameter that this library cannot honour is refused, never ignored', async (t) => {
  t.match(refusal('qemu://h/system?tls_priority=NORMAL'), /tls_priority .* not supported/);
  t.match(refusal('qemu+ssh://h/system?sshauth=agent'), /sshauth .* not supported/);
  t.match(refusal('qemu:///system?authfile=/x'), /authfile .* give `auth`/);
  t.match(refusal('qemu+tcp://h/system?no_verify=1'), /no_verify .* no meaning for transport tcp/);
  t.match(refusal('qemu://h/system?socket=/x'), /socket .* no meaning for transport tls/);
  t.match(refusal('qemu:///system?pkipath=/x'), /pkipath .* no meaning for transport unix/);
  t.match(refusal('qemu://h/system?no_verify=0&NO_VERIFY=1'), /no_verify .* comes twice/);
  t.match(refusal('qemu://h/system?no_verify=yes'), /no_verify .* 0 or 1/);
  t.match(refusal('qemu://h/system?constructor=1&__proto__=2&no_verify='), /no_verify .* 0 or 1/);
});

t.test('a way to log in can be demanded', async (t) => {
  t.same(read('qemu:///system?auth=polkit').auth, { type: 'polkit', mechanism: null });
  t.same(read('qemu://h/system?auth=sasl').auth, { type: 'sasl', mechanism: null });
  t.same(read('qemu://h/system?auth=SASL.scram-sha-256').auth, { type: 'sasl', mechanism: 'SCRAM-SHA-256' });
  for (const bad of ['', 'none', 'sasl.', 'polkit.x', 'sasl.a b'])
    t.match(
      refusal(`qemu://h/system?auth=${encodeURIComponent(bad)}`),
      /auth .* sasl\.MECHANISM or polkit/,
      bad,
    );
});

t.test('no error shows what stands in the place of a user and password', async (t) => {
  for (const uri of [
    'qemu://me:s3cret@host/system',
    'qemu://me:s3cret@ho st/system',
    'qemu://me:s3/cret@host',
  ])
    t.notMatch(refusal(uri), /s3/);
  t.match(refusal('qemu+ssh://me:pw@host/system'), /cannot carry a password/);
  t.match(refusal('qemu+tls://me@host/system'), /give `auth`/);
});

t.test('an ssh URI says who logs in where, and what runs there', async (t) => {
  t.same(sshOf('qemu+ssh://adm@host.example:2222/system'), {
    transport: 'ssh',
    host: 'host.example',
    port: 2222,
    user: 'adm',
    settings: {},
    remote: {
      proxy: 'auto',
      netcat: 'nc',
      socketPath: '/var/run/libvirt/libvirt-sock',
      uri: 'qemu:///system',
      readOnly: false,
    },
  });
  t.match(sshOf('qemu+ssh://h/system?mode=direct&x=1', 'readOnly').remote, {
    socketPath: '/var/run/libvirt/virtqemud-sock-ro',
    uri: 'qemu:///system?mode=direct&x=1',
    readOnly: true,
  });
  t.match(sshOf('qemu+ssh://h/session').remote, { proxy: 'native' });
  t.match(sshOf('qemu+ssh://h/system?socket=/s').remote, { proxy: 'netcat', socketPath: '/s' });
  t.match(sshOf('qemu+ssh://h/system?netcat=/opt/nc').remote, { proxy: 'netcat', netcat: '/opt/nc' });
  t.match(sshOf('qemu+ssh://h/system?proxy=netcat').remote, { proxy: 'netcat', netcat: 'nc' });
  t.match(sshOf('qemu+ssh://h/system?proxy=native&socket=/s').remote, { uri: 'qemu:///system?socket=%2Fs' });
  t.match(refusal('qemu+ssh://h/system?proxy=native&netcat=nc'), /contradicts/);
  for (const user of ['-x', '%2dx', 'a%3bb', '%24(id)', ''])
    t.match(refusal(`qemu+ssh://${user}@h/system`), /not a user name/, user);
});

t.test('an ssh URI’s parameters set ssh itself', async (t) => {
  const uri = 'qemu+ssh://h/system?command=/opt/ssh&keyfile=/k&known_hosts=/kh&no_tty=1&known_hosts_verify=';
  t.same(sshOf(`${uri}normal`).settings, {
    command: '/opt/ssh',
    keyFile: '/k',
    knownHostsFile: '/kh',
    hostKeys: 'known',
  });
  t.match(sshOf(`${uri}auto`).settings, { hostKeys: 'acceptNew' });
  t.match(sshOf(`${uri}ignore`).settings, { hostKeys: 'acceptAny' });
  t.match(sshOf(`${uri}normal&no_verify=1`).settings, { hostKeys: 'acceptAny' });
  t.match(refusal(`${uri}never`), /known_hosts_verify/);
});
