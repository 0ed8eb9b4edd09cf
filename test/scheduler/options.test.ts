/** The command line of berth-scheduler. */
import t from 'tap';
import { readCommandLine } from '../../src/scheduler/options.ts';

t.test('without options it listens on the loopback and keeps its state where the unit says', async (t) => {
  t.same(readCommandLine([]), {
    listen: { host: '127.0.0.1', port: 7680 },
    stateDir: '/var/lib/berth-scheduler',
    tokenFile: '/var/lib/berth-scheduler/token',
    heartbeatSeconds: 5,
    engine: { name: 'embedded' },
    policy: 'spread',
    bus: null,
    tls: null,
    logLevel: 'info',
  });
});

t.test('the token is kept with the state, unless it is said where', async (t) => {
  t.equal(readCommandLine(['--state-dir', '/x']).tokenFile, '/x/token');
  t.equal(readCommandLine(['--state-dir', '/x', '--token-file', '/y']).tokenFile, '/y');
});

t.test('addresses of both families are taken', async (t) => {
  t.same(readCommandLine(['--listen', '[::1]:80']).listen, { host: '::1', port: 80 });
  t.same(readCommandLine(['--listen', 'localhost:0']).listen, { host: 'localhost', port: 0 });
});

t.test('what is not allowed is said with what is', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['--listen', 'nowhere'], /Give host:port/],
    [['--listen', '::1:80'], /Give host:port/],
    [['--listen', 'a:70000'], /Give host:port/],
    [['--heartbeat-seconds', '0'], /1 to 300/],
    [['--heartbeat-seconds', '1.5'], /1 to 300/],
    [['--log-level', 'loud'], /Allowed choices are trace/],
    [['--what'], /unknown option/],
    [['extra'], /too many arguments/],
  ];
  for (const [argv, message] of wrong) {
    let said = '';
    t.throws(() => readCommandLine(argv, (text) => (said += text)));
    t.match(said, message);
  }
});

t.test('TLS is by files, or by an authority of its own, which is reached on the loopback, too', async (t) => {
  const files = ['--tls-cert', '/c', '--tls-key', '/k'];
  t.same(readCommandLine(files).tls, { kind: 'files', cert: '/c', key: '/k', clientCa: null });
  t.match(readCommandLine([...files, '--client-ca', '/ca']).tls, { clientCa: '/ca' });
  t.same(readCommandLine(['--ca', '--listen', '0.0.0.0:1', '--tls-name', 'a.example', '10.0.0.1']).tls, {
    kind: 'authority',
    hosts: ['a.example', '10.0.0.1', 'localhost', '127.0.0.1', '::1'],
    lifetimeMs: 720 * 3_600_000,
  });
  t.match(readCommandLine(['--ca', '--listen', '10.0.0.1:1']).tls, { hosts: ['10.0.0.1', 'localhost'] });
});

t.test('options of TLS that contradict each other are refused', async (t) => {
  const WRONG: [string[], RegExp][] = [
    [['--tls-cert', '/c'], /go together/],
    [['--tls-key', '/k'], /go together/],
    [['--client-ca', '/ca'], /needs --tls-cert/],
    [['--ca', '--tls-cert', '/c', '--tls-key', '/k'], /leave out --tls-cert/],
    [['--tls-name', 'a'], /needs --ca/],
    [['--ca', '--tls-name', 'a/b'], /no name of a host/],
    [['--ca', '--tls-name', ''], /no name of a host/],
    [['--ca', '--certificate-hours', '0'], /whole hours/],
    [['--ca', '--certificate-hours', '99999'], /whole hours/],
  ];
  for (const [argv, said] of WRONG) {
    let text = '';
    t.throws(() => readCommandLine(argv, (more) => (text += more)), argv.join(' '));
    t.match(text, said, argv.join(' '));
  }
});

t.test(
  'an engine that is not its own needs its address and its token, and nothing else takes them',
  async (t) => {
    const silent = () => undefined;
    const url = ['--placement-url', 'https://cloud.example/placement'];
    const token = ['--placement-token-file', '/run/token'];
    t.same(readCommandLine(['--engine', 'placement', ...url, ...token]).engine, {
      name: 'placement',
      url: 'https://cloud.example/placement',
      tokenFile: '/run/token',
    });
    for (const wrong of [
      ['--engine', 'placement'],
      ['--engine', 'placement', ...url],
      ['--engine', 'placement', ...token],
      [...url, ...token],
      ['--engine', 'nova'],
      ['--policy', 'best'],
      ['--engine', 'placement', ...token, '--placement-url', 'ftp://x'],
      ['--engine', 'placement', ...token, '--placement-url', 'https://user:secret@x'],
      ['--engine', 'placement', ...token, '--placement-url', 'https://x/?a=b'],
    ]) {
      t.throws(() => readCommandLine(wrong, silent), wrong.join(' '));
    }
  },
);
