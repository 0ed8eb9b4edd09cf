/**
 * Usage on a real node: a guest computes and writes, berthd is killed in the middle, and the records add up to what
 * libvirt says of the guest's process.
 */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import type { UsageRecord } from '../../src/model/usage.ts';
import { cannotRun, prepare, RealNode, spec, until } from './support/node.ts';

const skip = cannotRun();
/** A period, and a guest under TCG on a loaded machine, take their time, ms. */
const TEST_MS = 300_000;
const NAME = 'e2e-metering';
const DOMAIN = `berth-${NAME}`;
const node = new RealNode({ config: '[metering]\nsampleSeconds = 5\nperiodSeconds = 60\n' });

/** Writes to its second disk and computes, for ever. */
const WORK = `#!/bin/sh
while :; do
  head -c 1048576 /dev/urandom >/run/work
  dd if=/run/work of=/dev/vdb bs=64k conv=fsync
  dd if=/dev/vdb of=/dev/null bs=64k count=16
  sha256sum /run/work
  sleep 1
done </dev/null >/dev/null 2>&1 &
`;

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
  const disks = [{ image: 'test' }, { sizeGib: 1 }];
  const made = await node.run('instance.create', { spec: spec(NAME, { disks, userData: WORK }) });
  if (made.state !== 'succeeded') throw new Error(made.error?.message);
});
t.teardown(() => (skip ? undefined : node.remove()));

function virsh(...args: string[]): string {
  return execFileSync('virsh', ['-q', '-c', 'qemu:///system', ...args], { encoding: 'utf8' });
}

/** What libvirt says now, by its own names. */
function domstats(): Map<string, string> {
  const lines = virsh('domstats', '--raw', '--cpu-total', '--block', '--interface', DOMAIN).split('\n');
  return new Map(lines.map((line) => line.trim().split('=') as [string, string]));
}

/** A counter of the second disk. */
function diskCounter(name: 'wr.bytes' | 'wr.reqs' | 'rd.bytes', stats = domstats()): number {
  const [key = ''] = [...stats].find(([field, value]) => field.endsWith('.name') && value === 'vdb') ?? [];
  return Number(stats.get(key.replace('name', name)));
}

async function records(name: string): Promise<UsageRecord[]> {
  return (await node.call('usage.list', { object: name })).records;
}

/** The records of an object once they hold what was read after `sinceMs`. */
async function recordsSince(name: string, sinceMs: number): Promise<UsageRecord[]> {
  return until(`a record of ${name} with a later reading`, TEST_MS, async () => {
    const found = await records(name);
    return Date.parse(found.at(-1)?.measuredUntil ?? '') > sinceMs ? found : null;
  });
}

function sum(list: readonly (number | undefined)[]): number {
  return list.reduce<number>((all, each) => all + (each ?? 0), 0);
}

t.test(
  'records add up to what libvirt counts, though berthd is killed meanwhile',
  { skip, timeout: 3 * TEST_MS },
  async (t) => {
    await until('the guest has written', TEST_MS, async () => {
      return diskCounter('wr.bytes') > 2_000_000 ? true : null;
    });
    await node.end('SIGKILL');
    const atCrash = diskCounter('wr.bytes');
    await until('the guest goes on without berthd', TEST_MS, async () => {
      return diskCounter('wr.bytes') > atCrash ? true : null;
    });
    await node.start();
    virsh('suspend', DOMAIN);
    const suspendedMs = Date.now();
    const stats = domstats();
    const instance = await recordsSince(NAME, suspendedMs);
    const volume = await recordsSince(`${NAME}-disk1`, suspendedMs);
    const later = domstats();
    const of = (name: string) => Number(stats.get(name));
    t.equal(
      sum(volume.map((each) => each.volume?.writtenBytes)),
      diskCounter('wr.bytes', stats),
      'written bytes',
    );
    t.equal(
      sum(volume.map((each) => each.volume?.writeRequests)),
      diskCounter('wr.reqs', stats),
      'write requests',
    );
    t.equal(sum(volume.map((each) => each.volume?.readBytes)), diskCounter('rd.bytes', stats), 'read bytes');
    const received = sum(instance.map((each) => each.instance?.networkReceivedBytes));
    t.ok(
      received >= of('net.0.rx.bytes') && received <= Number(later.get('net.0.rx.bytes')),
      'received bytes',
    );
    t.equal(sum(instance.map((each) => each.instance?.networkSentBytes)), of('net.0.tx.bytes'), 'sent bytes');
    const cpuNs = Math.round(sum(instance.map((each) => each.instance?.cpuSeconds)) * 1e9);
    t.ok(cpuNs >= of('cpu.time') && cpuNs <= Number(later.get('cpu.time')), 'CPU time');
    const existed = sum(instance.map(({ existedSeconds }) => existedSeconds));
    t.ok(
      Math.abs(existed - sum(instance.map((each) => each.instance?.runningSeconds))) < 0.001,
      'it ran all the time',
    );
    t.same(
      instance.flatMap(({ incomplete }) => incomplete),
      [],
      'nothing is missing',
    );
  },
);

t.test(
  'a guest that is stopped by us is read to its end, and berth lists it',
  { skip, timeout: 2 * TEST_MS },
  async (t) => {
    virsh('resume', DOMAIN);
    const before = (await records(NAME)).length;
    t.match(await node.run('instance.stop', { id: NAME, mode: 'forced' }), { state: 'succeeded' });
    const [record] = await until('the next record', TEST_MS, async () => {
      const found = (await records(NAME)).slice(before);
      return found.length > 0 ? found : null;
    });
    const reasons = (record?.incomplete ?? []).map(({ reason }) => reason);
    t.same(
      reasons.filter((reason) => reason !== 'end-not-read'),
      [],
      'nothing but the moment between its last reading and its end',
    );
    const { code, stdout } = await node.berth('usage', 'list', '--instance', NAME);
    t.equal(code, 0);
    t.match(stdout, /^PERIOD +KIND +NAME +EXISTED/);
    t.equal((await node.berth('usage', 'list', '--since', 'yesterday')).code, 2);
  },
);
