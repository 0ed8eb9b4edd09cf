/** Two real hosts and a tiny guest that can move between them. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { BOOTED_AT, COUNT_AT, COUNTS_IN_MEMORY } from '../api/boot-sectors.ts';
import { GUEST_HOST } from '../api/domain-guest.ts';
import { type Connection, connect, constants, type Domain, type LibvirtEvent } from '../../src/index.ts';
import { type PrivateDaemon, startPrivateDaemon } from '../support/private-daemon.ts';
import { until } from '../support/until.ts';

export interface Host {
  daemon: PrivateDaemon;
  connection: Connection;
  /** By which the daemon of the other host connects to this one. */
  uri: string;
  /** What has happened to domains, for example 'nlm-1 STOPPED'. */
  heard: string[];
}

/** The two hosts have their files by the same paths, so storage is shared; and so is 127.0.0.1. */
export async function startHosts(t: Test): Promise<{ one: Host; other: Host }> {
  const [one, other] = await Promise.all([startHost(t), startHost(t)]);
  return { one, other };
}

async function startHost(t: Test): Promise<Host> {
  const daemon = await startPrivateDaemon(t, GUEST_HOST);
  const uri = `qemu+unix:///system?socket=${daemon.socketPath}`;
  const connection = await connect(uri);
  t.teardown(() => connection.close());
  const heard: string[] = [];
  await connection.onEvent('domain', 'lifecycle', (event) => heard.push(wordsOf(event)));
  return { daemon, connection, uri, heard };
}

function wordsOf({ domain, event, detail }: LibvirtEvent<'domain', 'lifecycle'>): string {
  const { virDomainEventType: type } = constants;
  const word = Object.entries(type).find(([, number]) => number === event)?.[0] ?? '';
  return `${domain.name} ${word.replace('VIR_DOMAIN_EVENT_', '')} ${detail}`;
}

/** The domain of a guest (boot-sectors.ts) whose disk is in a folder of its own, which ends with the test. */
export function movableXml(t: Test, name: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'nlm-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const disk = join(dir, 'boot.img');
  writeFileSync(disk, COUNTS_IN_MEMORY);
  // A disk that is only read may be on any storage that both hosts have.
  return `<domain type='qemu'>
  <name>${name}</name><uuid>${randomUUID()}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${disk}'/>
      <target dev='vda' bus='virtio'/><readonly/></disk>
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>`;
}

/** What the guest keeps in its memory. */
export interface Memory {
  bootedAt: bigint;
  count: number;
}

/** Waits until the guest has counted beyond this. */
export async function counted(domain: Domain, beyond = 0): Promise<Memory> {
  let memory = await memoryOf(domain);
  const look = async () => {
    memory = await memoryOf(domain);
    return memory.count > beyond;
  };
  await until(look, `${domain.name} counts on`);
  return memory;
}

async function memoryOf(domain: Domain): Promise<Memory> {
  const physical = constants.virDomainMemoryFlags.VIR_MEMORY_PHYSICAL;
  const bytes = Buffer.from(await domain.memoryPeek(COUNT_AT, BOOTED_AT + 8 - COUNT_AT, physical));
  return { count: bytes.readUInt32LE(0), bootedAt: bytes.readBigUInt64LE(BOOTED_AT - COUNT_AT) };
}

/** What the hypervisor itself says of the guest, for example 'running'. */
export async function statusOf(domain: Domain): Promise<string> {
  const answer = await domain.qemuMonitorCommand('{"execute":"query-status"}');
  return (JSON.parse(answer) as { return: { status: string } }).return.status;
}

/** Waits until memory is on its way. */
export async function moving(domain: Domain): Promise<void> {
  const look = async () => (await domain.getJobInfo()).memProcessed > 0n;
  await until(look, `the memory of ${domain.name} moves`);
}
