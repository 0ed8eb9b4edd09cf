/**
 * A host of its own for each test: a network namespace, and hands to act in it.
 *
 * Needs root, iproute2, nftables and dnsmasq; `labLacks` says what is missing. All names begin with `gbr`.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { BridgeDriver } from '../../../src/drivers/bridge/bridge-driver.ts';
import { bridgeHardwareAddress, networkFiles, tableName } from '../../../src/drivers/bridge/names.ts';
import type { NetworkPlan } from '../../../src/drivers/contracts/network.ts';
import { type Exec, HostExec, type RunOptions, type RunResult } from '../../../src/drivers/host/exec.ts';
import type { NetworkRig } from '../contract/network-rig.ts';

/** Milliseconds that a condition may take to come true. */
const CONDITION_TIMEOUT_MS = 10_000;
const CONDITION_POLL_MS = 20;
/** Of a bridge that is not ours. The kernel's own choice is one of ours in one of 64 cases. */
const FOREIGN_ADDRESS = '52:54:00:00:00:01';

/** Runs programs inside a network namespace. */
export class NamespaceExec implements Exec {
  readonly #host = new HostExec();
  /** One that does not exist makes every program fail. */
  namespace: string;

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.#host.run('nsenter', [`--net=/run/netns/${this.namespace}`, '--', program, ...args], options);
  }
}

/** Why the tests cannot run here, or false. */
export async function labLacks(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root for network namespaces';
  for (const [program, flag] of [
    ['ip', '-V'],
    ['nft', '--version'],
    ['dnsmasq', '--version'],
    ['busybox', '--list'],
  ] as const) {
    try {
      await new HostExec().run(program, [flag]);
    } catch {
      return `needs ${program}`;
    }
  }
  return false;
}

/** A new, empty network namespace with its loopback up; gone with its test. */
export async function makeNamespace(t: Test): Promise<NamespaceExec> {
  const namespace = `gbr${randomBytes(4).toString('hex')}`;
  const host = new HostExec();
  await host.run('ip', ['netns', 'add', namespace]);
  t.teardown(() => host.run('ip', ['netns', 'delete', namespace]));
  const exec = new NamespaceExec(namespace);
  await exec.run('ip', ['link', 'set', 'dev', 'lo', 'up']);
  // A new namespace takes this over from the machine, which may have it on.
  await exec.run('tee', ['/proc/sys/net/ipv4/ip_forward'], { input: '0' });
  return exec;
}

export interface BridgeRig extends NetworkRig {
  driver: BridgeDriver;
  exec: NamespaceExec;
  stateDir: string;
}

/** A driver on a host of its own. */
export async function makeBridgeRig(t: Test): Promise<BridgeRig> {
  const exec = await makeNamespace(t);
  const stateDir = await mkdtemp(join(tmpdir(), 'gbr-'));
  await chmod(stateDir, 0o755);
  const openDriver = () => new BridgeDriver({ exec, stateDir, serviceManager: 'none' });
  t.teardown(async () => {
    for (const pid of await dnsmasqPids(stateDir)) process.kill(pid, 'SIGKILL');
    await rm(stateDir, { recursive: true, force: true });
  });
  return {
    driver: openDriver(),
    exec,
    stateDir,
    reopen: openDriver,
    addForeignBridge: async (name) => {
      await exec.run('ip', ['link', 'add', 'name', name, 'address', FOREIGN_ADDRESS, 'type', 'bridge']);
    },
    hasBridge: async (name) => (await linkNames(exec)).includes(name),
    plugDevice: (bridge, device) => plugDevice(exec, bridge, device),
    beginBridge: async ({ id, bridge }) => {
      const address = bridgeHardwareAddress(id);
      await exec.run('ip', ['link', 'add', 'name', bridge, 'address', address, 'type', 'bridge']);
    },
    addTap: async (name) => {
      await exec.run('ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap']);
    },
    cutOff: async () => {
      const namespace = exec.namespace;
      exec.namespace = 'gbr-none';
      return async () => {
        exec.namespace = namespace;
      };
    },
    damages: damagesOf(exec, stateDir),
    leftovers: () => leftovers(exec, stateDir),
  };
}

/** Waits until the condition holds. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + CONDITION_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not in ${CONDITION_TIMEOUT_MS} ms: ${what}`);
    await delay(CONDITION_POLL_MS);
  }
}

/** Kills the network's dnsmasq and waits until it is gone. */
export async function killDnsmasq(stateDir: string, plan: NetworkPlan): Promise<void> {
  const { directory } = networkFiles(stateDir, plan.id);
  for (const pid of await dnsmasqPids(directory)) process.kill(pid, 'SIGKILL');
  await until('dnsmasq is gone', async () => (await dnsmasqPids(directory)).length === 0);
}

/** Processes that were started with a configuration below `directory`. */
export async function dnsmasqPids(directory: string): Promise<number[]> {
  return (await readdir('/proc'))
    .filter((entry) => /^\d+$/.test(entry) && commandLine(entry).includes(`--conf-file=${directory}`))
    .map(Number);
}

async function plugDevice(exec: Exec, bridge: string, device: string): Promise<() => Promise<void>> {
  await exec.run('ip', ['tuntap', 'add', 'dev', device, 'mode', 'tap']);
  await exec.run('ip', ['link', 'set', 'dev', device, 'master', bridge, 'up']);
  return async () => {
    await exec.run('ip', ['link', 'delete', 'dev', device]);
  };
}

function damagesOf(exec: Exec, stateDir: string): NetworkRig['damages'] {
  const ip = (...args: string[]) => exec.run('ip', args).then(() => undefined);
  const nft = (...args: string[]) => exec.run('nft', args).then(() => undefined);
  const write = (path: string, value: string) =>
    exec.run('tee', [path], { input: value }).then(() => undefined);
  return {
    'its dnsmasq': (plan) => killDnsmasq(stateDir, plan),
    'its rules': ({ id }) => nft('delete', 'table', 'inet', tableName(id)),
    'one chain of its rules': ({ id }) => nft('flush', 'chain', 'inet', tableName(id), 'from_guests'),
    'its address': ({ bridge }) => ip('address', 'flush', 'dev', bridge),
    'its power': ({ bridge }) => ip('link', 'set', 'dev', bridge, 'down'),
    'its alias': ({ bridge }) => ip('link', 'set', 'dev', bridge, 'alias', ''),
    'its bridge': ({ bridge }) => ip('link', 'delete', 'dev', bridge),
    'its lock on IPv6': ({ bridge }) => write(`/proc/sys/net/ipv6/conf/${bridge}/disable_ipv6`, '0'),
    forwarding: () => write('/proc/sys/net/ipv4/ip_forward', '0'),
    'its configuration': ({ id }) => write(networkFiles(stateDir, id).config, '# changed by hand\n'),
  };
}

async function leftovers(exec: Exec, stateDir: string): Promise<string[]> {
  const rules = (await exec.run('nft', ['list', 'ruleset'])).stdout;
  return [
    ...(await linkNames(exec)).filter((name) => name !== 'lo').map((name) => `link ${name}`),
    ...rules.split('\n').filter((line) => line.startsWith('table')),
    ...(await dnsmasqPids(stateDir)).map((pid) => `process ${pid}`),
    ...(await readdir(stateDir, { recursive: true })).map((name) => `file ${name}`),
  ];
}

async function linkNames(exec: Exec): Promise<string[]> {
  const { stdout } = await exec.run('ip', ['-json', 'link', 'show']);
  return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return '';
    throw thrown;
  }
}
