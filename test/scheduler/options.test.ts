/** The command line of berth-scheduler. */
import t from 'tap';
import { readCommandLine } from '../../src/scheduler/options.ts';

t.test('without options it listens on the loopback and keeps its state where the unit says', async (t) => {
  t.same(readCommandLine([]), {
    listen: { host: '127.0.0.1', port: 7680 },
    stateDir: '/var/lib/berth-scheduler',
    tokenFile: '/var/lib/berth-scheduler/token',
    heartbeatSeconds: 5,
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
