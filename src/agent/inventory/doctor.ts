/**
 * Doctor: looks at the host through every driver, and says what is wrong and how to mend it.
 *
 * One check that hangs or fails is a finding of its own, and keeps none of the others from being told.
 */

import type { ObjectStore } from '../../drivers/contracts/objects.ts';
import type { StoragePool } from '../../drivers/contracts/storage.ts';
import { AgentError } from '../../model/errors.ts';
import type { Finding } from '../../model/node.ts';
import { DEFAULT_POOL } from '../../model/pool.ts';
import { GIB } from '../../model/units.ts';
import type { Collector } from '../collector/collector.ts';
import type { Services } from '../services.ts';
import type { PoolWatch } from './pool-watch.ts';

/** Each check has this long, ms. */
const CHECK_TIMEOUT_MS = 10_000;
/** Below this share of free room a pool is worth a warning: thin volumes grow without asking. */
const FREE_SHARE_WARNING = 0.1;
/** A place without TLS on another machine. */
const OPEN_PLACE = /^http:\/\/(?!(localhost|127\.[0-9.]+|\[::1\])[:/])/;

type Check = [name: string, check: (options: { timeoutMs: number }) => Promise<Finding[]>];

export async function examineNode(services: Services, collector: Collector): Promise<Finding[]> {
  const checks: Check[] = [
    ['host', (options) => services.host.examine(options)],
    ['libvirt', (options) => examineHypervisor(services, options)],
    ...services.pools.all.map((pool): Check => [spaceCheck(pool), (options) => examinePool(pool, options)]),
    ...services.inventories.pools.slice(1).map((pool) => wayCheck(services, pool)),
    ['ownership', async () => examineOwnership(services)],
    ['network', (options) => examineNetwork(services, options)],
    ['leaks', (options) => examineLeaks(collector, options)],
    ['encryption', (options) => examineKeys(services, options)],
    ...Array.from(
      services.objects.values(),
      (store): Check => [`objects-${store.name}`, (options) => examineObjects(store, options)],
    ),
  ];
  const findings = await Promise.all(
    checks.map(([name, check]) =>
      check({ timeoutMs: CHECK_TIMEOUT_MS }).catch((error: unknown) => [failed(name, error)]),
    ),
  );
  return findings.flat();
}

async function examineHypervisor(
  { hypervisor }: Services,
  options: { timeoutMs: number },
): Promise<Finding[]> {
  const health = hypervisor.health();
  if (!health.connected) {
    return [
      finding(
        'libvirt',
        'failure',
        health.reason,
        'Start libvirtd (systemctl start libvirtd), and see its log.',
      ),
    ];
  }
  const facts = await hypervisor.facts(options);
  return [
    finding('libvirt', 'ok', `libvirt ${facts.libvirtVersion}, QEMU ${facts.qemuVersion}`),
    facts.acceleration === 'kvm'
      ? finding('virtualization', 'ok', `KVM works: ${facts.accelerationReason}`)
      : finding(
          'virtualization',
          'warning',
          `guests run without KVM, many times slower: ${facts.accelerationReason}`,
          facts.acceleration === 'absent'
            ? 'Switch on VT-x or AMD-V in the firmware and load kvm_intel or kvm_amd.'
            : 'This machine is itself a guest whose nested virtualization does not work; use the hardware.',
        ),
    ...(facts.shares === undefined ? [] : [sharesFinding(facts.shares)]),
  ];
}

function sharesFinding({ usable, reason }: { usable: boolean; reason: string }): Finding {
  if (usable) return finding('shares', 'ok', `guests can be given shares: ${reason}`);
  return finding(
    'shares',
    'warning',
    `guests can't be given shares: ${reason}`,
    'Install virtiofsd, if shares are wanted: apt-get install virtiofsd (Debian 12: qemu-system-common).',
  );
}

/** The default pool's had its name before there were others. */
function spaceCheck({ name }: StoragePool): string {
  return name === DEFAULT_POOL ? 'disk-space' : `disk-space-${name}`;
}

/** The host's own examination tries the way to the default pool. */
function wayCheck({ host }: Services, { settings: { name, path } }: PoolWatch): Check {
  const check = `way to pool ${name}`;
  return [
    check,
    async (options) => {
      const found = await host.examineWay({ check, path }, options);
      return found === null ? [] : [found];
    },
  ];
}

async function examinePool(pool: StoragePool, options: { timeoutMs: number }): Promise<Finding[]> {
  const check = spaceCheck(pool);
  await pool.prepare(options);
  const { totalBytes, availableBytes } = await pool.capacity(options);
  const message = `${Math.floor(availableBytes / GIB)} of ${Math.floor(totalBytes / GIB)} GiB are free in pool ${pool.name}`;
  if (availableBytes > totalBytes * FREE_SHARE_WARNING) return [finding(check, 'ok', message)];
  return [
    finding(check, 'warning', message, 'Delete images and volumes, or give the pool a larger file system.'),
  ];
}

async function examineNetwork({ network }: Services, options: { timeoutMs: number }): Promise<Finding[]> {
  const features = await network.features(options);
  return features.map(({ name, usable, reason }) =>
    usable
      ? finding(name, 'ok', reason)
      : finding(name, 'failure', reason, `Install what ${name} needs; networks can't be made without it.`),
  );
}

async function examineLeaks(collector: Collector, options: { timeoutMs: number }): Promise<Finding[]> {
  const { leaks, unknown } = await collector.look(options);
  if (unknown.length > 0) {
    const parts = unknown
      .map(({ part, pool, reason }) => `${part}${pool === null ? '' : ` of pool ${pool}`}: ${reason}`)
      .join('; ');
    return [finding('leaks', 'warning', `could not be looked for everywhere: ${parts}`)];
  }
  const proven = leaks.filter(({ proof }) => proof !== null).length;
  const others = `${leaks.length - proven} things that look like ours are unknown to this node`;
  if (proven === 0) return [finding('leaks', 'ok', leaks.length === 0 ? 'nothing is left over' : others)];
  return [
    finding('leaks', 'warning', `${proven} things that Berth made are left over`, 'See `berth leaks`.'),
  ];
}

/** Each key of the configuration, and each that a volume names: the key is tried on one of its volumes. */
async function examineKeys(
  { keys, pools, store }: Services,
  options: { timeoutMs: number },
): Promise<Finding[]> {
  const byKey = Map.groupBy(store.volumes.list(), ({ encryption }) => encryption?.key ?? null);
  byKey.delete(null);
  const names = [...new Set([...keys.names, ...byKey.keys()])].filter((name) => name !== null);
  const examine = async (name: string): Promise<Finding> => {
    const volumes = byKey.get(name) ?? [];
    const check = `key-${name}`;
    try {
      await keys.check(name);
      const [made] = volumes.filter(({ state }) => state === 'ready');
      if (made !== undefined)
        await pools.of(made).checkKey({ ...made, layers: store.layers.chainOf(made.id) }, options);
    } catch (error) {
      const { message, hint } = AgentError.from(error).toBody();
      const lost = volumes.length === 0 ? '' : `; ${volumes.length} volumes can't be opened`;
      return finding(
        check,
        'failure',
        `${message}${lost}`,
        hint ?? 'Put its file back from your copy of it.',
      );
    }
    return finding(check, 'ok', `${volumes.length} volumes are encrypted by key ${name}, which can be read`);
  };
  return Promise.all(names.map(examine));
}

/** Two nodes that run one instance write to its disks both, or answer for its address. */
function examineOwnership({ store }: Services): Finding[] {
  const down: ReadonlySet<string> = new Set(['stopped', 'crashed']);
  return store.instances
    .listDisowned()
    .filter(({ power }) => !down.has(power.state))
    .map(({ name, power, disowned }) =>
      finding(
        'ownership',
        'failure',
        `instance ${name} is disowned since ${disowned?.at} and is ${power.state} here: ${disowned?.reason}`,
        'See on which node it should run; stop it here, or take it back with `berth instance configure --take-back`.',
      ),
    );
}

/** One that can't be used is told with its mend, where the driver knows one. */
async function examineObjects(store: ObjectStore, options: { timeoutMs: number }): Promise<Finding[]> {
  const check = `objects-${store.name}`;
  try {
    await store.probe(options);
  } catch (error) {
    const { message, hint } = AgentError.from(error).toBody();
    return [
      finding(check, 'failure', message, hint ?? 'See that the server runs and can be reached from here.'),
    ];
  }
  if (!OPEN_PLACE.test(store.place)) return [finding(check, 'ok', `${store.place} answers`)];
  const message = `${store.place} answers, and what goes there can be read on the way`;
  return [finding(check, 'warning', message, 'Use an https:// endpoint.')];
}

function failed(check: string, error: unknown): Finding {
  return finding(check, 'failure', AgentError.from(error).toBody().message, 'See the log of berthd.');
}

function finding(
  check: string,
  verdict: Finding['verdict'],
  message: string,
  mend: string | null = null,
): Finding {
  return { check, verdict, message, mend };
}
