/** An ssh server of a test's own on 127.0.0.1, on a private host, so that a login there meets that host's libvirt. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { PrivateHost } from '../support/private-host.ts';
import { until } from '../support/until.ts';
import { freePort, isInstalled } from './support.ts';

export interface Sshd {
  port: number;
  pid: number;
  /** Key that is let in. */
  keyFile: string;
  /** Key that is not. */
  otherKeyFile: string;
  /** Knows the host. */
  knownHostsFile: string;
  /** An empty ssh_config, so that this machine's own does not count. */
  configFile: string;
  /** Folder of all these. */
  dir: string;
}

/** Why no ssh server can be started here, or false. */
export function sshdMissing(): string | false {
  const missing = ['ssh', 'ssh-keygen'].find((program) => !isInstalled(program));
  if (missing !== undefined) return `needs ${missing}`;
  return isInstalled('sshd') || isInstalled('dropbear') ? false : 'needs sshd or dropbear';
}

/** Starts OpenSSH's sshd, or dropbear where that is not installed. */
export async function startSshd(host: PrivateHost): Promise<Sshd> {
  const dir = join(host.dir, 'ssh');
  mkdirSync(dir);
  const at = (name: string) => join(dir, name);
  for (const name of ['host', 'user', 'other'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `nlt-${name}`, '-f', at(name)]);
  const port = await freePort();
  writeFileSync(at('known_hosts'), `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`);
  writeFileSync(at('ssh_config'), '');
  await layOut(host, at);
  const pid = await host.spawn(argvOf(port, at), { env: {}, logPath: at('log') });
  await until(() => listens(port), 'the ssh server listens');
  return {
    ...{ port, pid, dir, keyFile: at('user'), otherKeyFile: at('other') },
    ...{ knownHostsFile: at('known_hosts'), configFile: at('ssh_config') },
  };
}

/** root gets a home of its own, with the key that is let in. What its shell starts on this machine takes a second. */
async function layOut(host: PrivateHost, at: (name: string) => string): Promise<void> {
  const script = `mkdir -p /run/sshd; mount -t tmpfs -o mode=700 tmpfs /root
    mkdir -m 700 /root/.ssh; install -m 600 "$1" /root/.ssh/authorized_keys`;
  const { code, stderr } = await host.run('bash', '-euc', script, 'lay-out', at('user.pub'));
  if (code !== 0) throw new Error(`root has no home: ${stderr}`);
}

function argvOf(port: number, at: (name: string) => string): string[] {
  if (isInstalled('sshd')) {
    writeFileSync(at('sshd_config'), configText(port, at));
    return ['/usr/sbin/sshd', '-D', '-e', '-f', at('sshd_config')];
  }
  execFileSync('dropbearconvert', ['openssh', 'dropbear', at('host'), at('host.dropbear')], {
    stdio: 'ignore',
  });
  return [
    'dropbear',
    '-F',
    '-E',
    '-s',
    '-p',
    `127.0.0.1:${port}`,
    '-r',
    at('host.dropbear'),
    '-P',
    at('pid'),
  ];
}

function configText(port: number, at: (name: string) => string): string {
  return `Port ${port}
ListenAddress 127.0.0.1
HostKey ${at('host')}
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
`;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.createConnection({ host: '127.0.0.1', port });
    socket.once('data', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.once('data', () => socket.destroy());
  });
}
