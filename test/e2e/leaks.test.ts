/**
 * Leaks on a real node: one orphan of each kind is found, proven by the journal and removed, and what only looks like
 * ours stays.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import type { Leak, NodeLeaks } from '../../src/model/leak.ts';
import { cannotRun, freeCidr, hostTraces, prepare, RealNode, spec } from './support/node.ts';

const skip = cannotRun();
/** ms; under TCG on a loaded machine */
const TEST_MS = 240_000;
const node = new RealNode();
const pool = join(node.folder, 'state', 'pool');

/** Of another berthd, which this node has never heard of. */
const alien = randomUUID();
const alienDigits = alien.replaceAll('-', '');
const aliens = {
  bridge: `bb-${alienDigits.slice(0, 11)}`,
  table: `berth_${alienDigits}`,
  tap: `bt-${alienDigits.slice(0, 11)}`,
  file: join(pool, 'volumes', `${alien}.qcow2`),
};
const foreignId = randomUUID();

t.before(async () => {
  if (skip) return;
  await node.start();
  await prepare(node);
});
t.teardown(async () => {
  if (skip) return;
  for (const id of [alien, foreignId]) tryRun('virsh', '-q', 'undefine', id);
  for (const device of [aliens.bridge, aliens.tap]) tryRun('ip', 'link', 'delete', 'dev', device);
  tryRun('nft', 'delete', 'table', 'inet', aliens.table);
  await node.remove();
});

t.test('orphans of every kind are removed, and look-alikes stay', { skip, timeout: TEST_MS }, async (t) => {
  const orphans = await plantOrphans();
  plantLookAlikes(orphans.usedVolume);

  const first = await leaksOf();
  t.same(first.unknown, []);
  t.same(provenOf(first), orphans.names.toSorted());
  const told = new Map(first.leaks.map((leak) => [leak.name, leak]));
  for (const name of orphans.names)
    t.ok(told.get(name)?.proof?.operationId, `${name} is proven by an operation`);
  t.match(told.get(orphans.usedVolume), { blocked: /berth-e2e-foreign uses it/ });
  for (const name of [aliens.bridge, aliens.table, aliens.tap, aliens.file, alien]) {
    t.match(told.get(name), { proof: null }, `${name} is told without proof`);
  }
  t.ok((told.get(orphans.volume)?.sizeBytes ?? 0) > 0, 'a file has a size');
  t.match(await node.berth('leaks'), { code: 0, stdout: /unconfirmed/ });

  t.match(await node.berth('leaks', '--remove'), { code: 2, stderr: /--yes/ }, 'not without being asked');
  t.match(await node.berth('leaks', aliens.bridge, '--remove', '--yes'), {
    code: 1,
    stderr: /does not prove/,
  });
  t.match(await node.berth('leaks', '--remove', '--yes'), { code: 0, stdout: /^Removed/ });

  const after = await leaksOf();
  t.same(provenOf(after), [orphans.usedVolume]);
  for (const trace of orphans.traces) t.same(hostTraces(trace), [], `${trace} is gone from the host`);
  t.ok(existsSync(orphans.usedVolume), 'a file that a foreign guest names stays');
  for (const [what, name] of [
    ['bridge', aliens.bridge],
    ['tap', aliens.tap],
    ['table', aliens.table],
    ['guest', alien],
    ['foreign guest', foreignId],
  ] as const) {
    t.not(hostTraces(name).length, 0, `the ${what} of another stays`);
  }
  t.ok(existsSync(aliens.file));
  t.same(networkFolders(), [(await node.call('network.list', {})).networks[0]?.id]);
  t.equal((await node.call('network.list', {})).networks.length, 1, 'the network that has an owner goes on');
});

interface Orphans {
  /** As they are told; sorted by nothing. */
  names: string[];
  /** What the host's own tools show of them. */
  traces: string[];
  volume: string;
  /** A volume whose name the journal proves, and that a foreign guest names. */
  usedVolume: string;
}

/** Makes things by operations, and then loses the rows of their objects, or puts back what was deleted. */
async function plantOrphans(): Promise<Orphans> {
  const lost = { name: 'lost', cidr: freeCidr(), nat: true, dhcp: true, dnsServers: [] };
  await node.run('network.create', { spec: lost });
  await node.run('instance.create', { spec: spec('lost') });
  await node.run('instance.stop', { id: 'lost', mode: 'forced' });
  const { network } = await node.call('network.show', { id: 'lost' });
  const { network: kept } = await node.call('network.show', { id: 'default' });
  const { instance } = await node.call('instance.show', { id: 'lost' });
  const [volume, usedVolume] = [await deletedVolume('one'), await deletedVolume('two')];
  await node.end('SIGTERM');
  loseRows(instance.id, network.id);
  await node.start();
  const { tapName, portId } = instance.nics[0] as { tapName: string; portId: string };
  run('ip', 'tuntap', 'add', 'dev', tapName, 'mode', 'tap');
  run('ip', 'link', 'set', 'dev', tapName, 'master', network.bridge);
  const table = `berth_${network.id.replaceAll('-', '')}`;
  const folder = join(node.folder, 'run', 'networks', network.id);
  return {
    names: [
      instance.id,
      join(pool, 'seeds', `${instance.id}.iso`),
      join(pool, 'consoles', `${instance.id}.log`),
      join(pool, 'volumes', `${instance.disks[0]?.volumeId}.qcow2`),
      join(node.folder, 'run', 'networks', kept.id, 'hosts', portId),
      tapName,
      network.bridge,
      table,
      folder,
      join(folder, 'dnsmasq.conf'),
      volume,
      usedVolume,
    ],
    traces: [instance.id, tapName, network.bridge, table],
    volume,
    usedVolume,
  };
}

/** A volume's file that is there again after its deletion. */
async function deletedVolume(name: string): Promise<string> {
  await node.run('volume.create', { name, sizeGib: 1 });
  const { volume } = await node.call('volume.show', { id: name });
  await node.run('volume.delete', { id: name });
  const path = join(pool, 'volumes', `${volume.id}.qcow2`);
  run('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M');
  return path;
}

function loseRows(instanceId: string, networkId: string): void {
  const database = new Sqlite(join(node.folder, 'state', 'berth.sqlite'));
  for (const table of ['ports', 'volumes']) {
    database.prepare(`DELETE FROM ${table} WHERE instance_id = ?`).run(instanceId);
  }
  database.prepare('DELETE FROM allocations WHERE consumer_id = ?').run(instanceId);
  database.prepare('DELETE FROM instances WHERE id = ?').run(instanceId);
  database.prepare('DELETE FROM networks WHERE id = ?').run(networkId);
  database.close();
}

function plantLookAlikes(usedVolume: string): void {
  run('ip', 'link', 'add', 'name', aliens.bridge, 'type', 'bridge');
  run('ip', 'link', 'set', 'dev', aliens.bridge, 'alias', `berth:network:${alien}`);
  run('ip', 'tuntap', 'add', 'dev', aliens.tap, 'mode', 'tap');
  run('nft', 'add', 'table', 'inet', aliens.table);
  run('qemu-img', 'create', '-q', '-f', 'qcow2', aliens.file, '1M');
  const metadata = '<metadata><b:instance xmlns:b="urn:berth:instance:1">{}</b:instance></metadata>';
  define(`<domain type='qemu'><name>berth-e2e-alien</name><uuid>${alien}</uuid>${metadata}${BODY}</domain>`);
  const disk = `<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${usedVolume}'/><target dev='vda' bus='virtio'/></disk></devices>`;
  define(`<domain type='qemu'><name>berth-e2e-foreign</name><uuid>${foreignId}</uuid>${BODY}${disk}</domain>`);
}

const BODY =
  "<memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>";

function define(xml: string): void {
  const file = join(node.folder, 'domain.xml');
  writeFileSync(file, xml);
  run('virsh', '-q', '-c', 'qemu:///system', 'define', file);
  rmSync(file);
}

async function leaksOf(): Promise<NodeLeaks> {
  const { stdout } = await node.berth('leaks', '--json');
  return JSON.parse(stdout) as NodeLeaks;
}

function provenOf({ leaks }: NodeLeaks): string[] {
  return leaks
    .filter(({ proof }: Leak) => proof !== null)
    .map(({ name }) => name)
    .toSorted();
}

function networkFolders(): string[] {
  return run('ls', join(node.folder, 'run', 'networks'))
    .trim()
    .split('\n');
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8' });
}

function tryRun(program: string, ...args: string[]): void {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
  } catch {
    // gone already, or never made
  }
}
