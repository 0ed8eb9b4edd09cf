/** The command lines of ssh, here and there. */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connect, LibvirtUsageError } from '../../src/index.ts';
import type { SshEndpoint, SshRemote } from '../../src/transport/endpoint.ts';
import { remoteCommand, type SshOptions, sshCommand } from '../../src/transport/ssh-command.ts';
import { parseUri } from '../../src/uri.ts';
import { failureOf, kindOf } from '../support/outcome.ts';
import fc from '../support/property.ts';
import { until } from '../support/until.ts';

const REMOTE: SshRemote = {
  proxy: 'native',
  netcat: 'nc',
  socketPath: '/var/run/libvirt/libvirt-sock',
  uri: 'qemu:///system',
  readOnly: false,
};

function argsOf(uri: string, options: SshOptions = {}): string[] {
  const { endpoint } = parseUri(uri, 'readWrite');
  return sshCommand(endpoint as SshEndpoint, options, 30_000).args;
}

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'nlt-ssh-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A program that stands for another. */
function program(dir: string, name: string, script: string): string {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

t.test('ssh is told never to ask, to share nothing, and where its options end', async (t) => {
  t.same(
    argsOf('qemu+ssh://adm@host.example:2222/system?proxy=native', { keyFile: '/k y', hostKeys: 'known' }),
    [
      ...['-p', '2222', '-l', 'adm', '-T', '-a', '-x', '-e', 'none'],
      ...['-o', 'BatchMode=yes', '-o', 'ControlMaster=no', '-o', 'ControlPath=none'],
      ...['-o', 'ClearAllForwardings=yes', '-o', 'ConnectTimeout=27'],
      ...['-o', 'IdentityFile="/k y"', '-o', 'StrictHostKeyChecking=yes'],
      ...['--', 'host.example', `sh -c 'exec virt-ssh-helper '\\''qemu:///system'\\'''`],
    ],
  );
  t.same(argsOf('qemu+ssh://[fe80::1%25eth0]/system').at(-2), 'fe80::1%eth0');
});

t.test('options go before what the URI says', async (t) => {
  const uri = 'qemu+ssh://h/system?keyfile=/uri&no_verify=1';
  t.ok(argsOf(uri).includes('IdentityFile="/uri"'));
  t.ok(argsOf(uri).includes('StrictHostKeyChecking=no'));
  const given = argsOf(uri, { keyFile: '/option', hostKeys: 'acceptNew', configFile: '/c' });
  t.ok(given.includes('IdentityFile="/option"'));
  t.ok(given.includes('StrictHostKeyChecking=accept-new'));
  t.same(given.slice(0, 2), ['-F', '/c']);
});

t.test('options that could mean something else to ssh are refused', async (t) => {
  const bad: SshOptions[] = [
    { keyFile: '/a"b' },
    { keyFile: '/a$HOME' },
    { keyFile: '' },
    { keyFile: '-x' },
    { knownHostsFile: '/a\nProxyCommand id' },
    { configFile: '-oProxyCommand=id' },
    { command: '' },
    { command: '-x' },
    { command: 7 as unknown as string },
    { hostKeys: 'constructor' as 'known' },
  ];
  for (const options of bad)
    t.throws(() => argsOf('qemu+ssh://h/system', options), LibvirtUsageError, JSON.stringify(options));
  const missing = await failureOf(connect('qemu+ssh://h/system', { ssh: { keyFile: '/nonexistent/nlt' } }));
  t.ok(missing instanceof LibvirtUsageError);
  t.match(missing.message, 'cannot read the private key /nonexistent/nlt');
});

t.test('any socket and any URI reach the program on the other side as one word', async (t) => {
  const dir = folder(t);
  const env = { PATH: `${dir}:${process.env['PATH']}` };
  for (const name of ['virt-ssh-helper', 'nc'])
    program(dir, name, 'for word; do printf "%s\\0" "$word"; done');
  const words = (remote: SshRemote) =>
    execFileSync('sh', ['-c', remoteCommand(remote)], { env, encoding: 'utf8' })
      .split('\0')
      .slice(0, -1);
  const text = fc.string({ unit: 'binary', minLength: 1 }).filter((each) => !/\0/.test(each));
  fc.assert(
    fc.property(text, (word) => {
      t.same(words({ ...REMOTE, uri: word }), [word]);
      t.same(words({ ...REMOTE, proxy: 'netcat', socketPath: word }).slice(-2), ['-U', word]);
    }),
    { numRuns: 40 },
  );
  t.same(words({ ...REMOTE, proxy: 'auto', readOnly: true }), ['-r', 'qemu:///system']);
});

t.test('a shell without virt-ssh-helper takes netcat, and one without both says so', async (t) => {
  const dir = folder(t);
  const sh = execFileSync('sh', ['-c', 'command -v sh'], { encoding: 'utf8' }).trim();
  program(dir, 'sh', `exec ${sh} "$@"`);
  program(dir, 'grep', 'cat >/dev/null; exit 0');
  const command = remoteCommand({ ...REMOTE, proxy: 'auto' });
  const status = () =>
    new Promise<number>((resolve) => {
      execFile(sh, ['-c', command], { env: { PATH: dir } }, (error) => resolve(Number(error?.code ?? 0)));
    });
  t.equal(await status(), 127);
  program(dir, 'nc', 'exit 5');
  t.equal(await status(), 5);
});

t.test('an ssh that hangs is given up after the timeout, and ended', async (t) => {
  const dir = folder(t);
  const command = program(dir, 'ssh', `echo $$ >${dir}/pid; exec sleep 60`);
  const options = { reconnect: false, callTimeoutMs: 300, ssh: { command } } as const;
  t.equal(await kindOf(connect('test+ssh://nlt.invalid/default', options)), 'timeout');
  const pid = Number(execFileSync('cat', [join(dir, 'pid')], { encoding: 'utf8' }));
  const isRunning = () => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  await until(() => !isRunning(), 'it has ended');
});

t.test('an ssh that ends without a word, or prints what no libvirt sends, is a typed error', async (t) => {
  const dir = folder(t);
  const attempt = (script: string) => {
    const ssh = { command: program(dir, 'ssh', script) };
    return failureOf(connect('test+ssh://nlt.invalid/default', { reconnect: false, ssh }));
  };
  t.match(await attempt('exit 0'), { kind: 'unreachable', message: /ended with status 0 before the daemon/ });
  t.match(await attempt('kill -KILL $$'), { kind: 'unreachable' });
  t.match(await attempt('echo Welcome to this host; sleep 5'), { kind: 'protocol' });
  const esc = String.fromCharCode(27);
  const words = await attempt(`printf '${esc}[31mno\\r\\nway\\n' >&2; exit 255`);
  t.match(words.message, /: \?\[31mno way$/);
});
