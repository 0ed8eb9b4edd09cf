/**
 * A real host: libvirtd, QEMU, bridges, nftables and dnsmasq in namespaces of the laboratory's own.
 *
 * It is alone there: whatever network device, rule or process is seen belongs to this node, or is a leak. Its
 * guests have a boot sector in place of a system: they run until their power button is pressed.
 */
import { execFile } from 'node:child_process';
import { chmodSync, type Dirent, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { guestImage } from './guest.ts';
import { MARK_NAME } from '../../../src/drivers/qcow2/pool-mark.ts';
import { LabNode, OTHER_POOL, SHARED_POOL } from '../node/lab-node.ts';
import { Disk } from './disk.ts';
import { type Lending, lendVolumes, lookAtLent } from './lent.ts';
import { Libvirtd } from './libvirtd.ts';
import { processesInside } from './processes.ts';
import type { Stand } from './stand.ts';

const STATE_MIB = 64;
const POOL_MIB = 4_096;
const run = promisify(execFile);

export class LibvirtStand implements Stand {
  readonly driver = 'libvirt';
  readonly node: LabNode;
  readonly image: { source: string; format: 'raw' };
  readonly stateDisk: Disk;
  readonly poolDisk: Disk;
  readonly daemon: Libvirtd;

  /** @param folder Of the private host, in memory. */
  constructor(folder: string) {
    const images = join(folder, 'images');
    mkdirSync(images, { recursive: true });
    this.node = new LabNode({ folder: join(folder, 'node'), driver: 'libvirt', world: null });
    chmodSync(this.node.folder, 0o711);
    this.stateDisk = new Disk({ path: this.node.stateDir, images, name: 'state', sizeMib: STATE_MIB });
    this.poolDisk = new Disk({ path: this.node.poolDir, images, name: 'pool', sizeMib: POOL_MIB });
    for (const path of [
      this.stateDisk.path,
      this.poolDisk.path,
      this.node.otherPoolDir,
      this.node.sharedPoolDir,
    ])
      chmodSync(path, 0o711);
    this.image = { source: join(folder, 'guest.raw'), format: 'raw' };
    writeFileSync(this.image.source, guestImage());
    this.daemon = new Libvirtd(folder);
  }

  async host(): Promise<string[]> {
    const parts = await Promise.all([this.#guests(), links(), tables(), secrets()]);
    // The processes last: by then the tools above have ended.
    return [...parts.flat(), ...this.#files(), ...this.#networkFiles(), ...this.#processes()];
  }

  async processes(): Promise<Map<string, string>> {
    const qemu = processesInside().filter(({ guest }) => guest !== null);
    return new Map(qemu.map(({ guest, pid, startedAt }) => [guest as string, `${pid} of ${startedAt}`]));
  }

  async leaveConsole(id: string): Promise<void> {
    writeFileSync(join(this.node.poolDir, 'consoles', `${id}.log`), 'left over\n');
  }

  lendVolumes(lending: Lending = {}): Promise<void> {
    return lendVolumes({ root: this.node.sharedPoolDir, stateDir: this.node.folder }, lending);
  }

  async close(): Promise<void> {
    await this.node.close();
    await this.daemon.kill();
  }

  /** Running ones are listed by both commands. */
  async #guests(): Promise<string[]> {
    const { stdout } = await run('virsh', ['-q', '-c', 'qemu:///system', 'list --all --uuid; list --uuid']);
    const ids = stdout.split('\n').filter(Boolean);
    const guests = [...new Set(ids)].map((id) => {
      const times = ids.filter((each) => each === id).length;
      return `guest ${id} ${times === 2 ? 'running' : 'stopped'}`;
    });
    const checkpoints = await Promise.all([...new Set(ids)].map((id) => this.#olderCheckpoints(id)));
    return [...guests, ...checkpoints.flat()];
  }

  /** One is gone on from; nothing needs those before it. A guest may go meanwhile. */
  async #olderCheckpoints(id: string): Promise<string[]> {
    const args = ['-q', '-c', 'qemu:///system', 'checkpoint-list', id, '--name', '--topological'];
    const { stdout } = await run('virsh', args).catch(() => ({ stdout: '' }));
    const names = stdout.split('\n').filter((line) => line.startsWith('berth-'));
    return names.slice(1).map((name) => `checkpoint ${id} ${name}`);
  }

  #files(): string[] {
    const others = filesIn(this.node.otherPoolDir).filter((name) => name !== MARK_NAME);
    return [
      ...filesIn(this.node.poolDir).map((name) => `file ${name}`),
      ...others.map((name) => `file ${OTHER_POOL}/${name}`),
      ...this.#sharedFiles(),
    ];
  }

  #sharedFiles(): string[] {
    const { lines, own } = lookAtLent(this.node.sharedPoolDir);
    const names = own === null ? [] : filesIn(own).filter((name) => name !== 'berth-node.json');
    return [...lines, ...names.map((name) => `file ${SHARED_POOL}/${name}`)];
  }

  #networkFiles(): string[] {
    const folder = join(this.node.runDir, 'networks');
    return namesIn(folder).flatMap((id) => [
      `folder ${id}`,
      ...namesIn(join(folder, id, 'hosts')).map((port) => `port ${id} ${port}`),
    ]);
  }

  #processes(): string[] {
    return processesInside()
      .filter(({ isOurs }) => !isOurs)
      .map(({ name, guest, network, share, command }) => {
        if (guest !== null) return `qemu ${guest}`;
        if (share !== null) return `virtiofsd ${share}`;
        return network === null ? `process ${name}: ${command}` : `dnsmasq ${network}`;
      });
  }
}

/** By their names within the folder of a pool. */
function filesIn(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() || entry.name.endsWith('.work') || isShare(entry))
      // A seed's inputs are told once, by their folder.
      .filter(({ parentPath }) => !parentPath.includes('.work'))
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
  );
}

/** A share is a folder; the laboratory's are empty. */
function isShare({ parentPath, name }: Dirent): boolean {
  return parentPath.endsWith('/shares') && !name.includes('.json');
}

interface LinkJson {
  ifname: string;
  master?: string;
  linkinfo?: { info_kind?: string };
}

async function links(): Promise<string[]> {
  const { stdout } = await run('ip', ['-json', '-details', 'link']);
  return (JSON.parse(stdout) as LinkJson[])
    .filter(({ ifname }) => ifname !== 'lo')
    .map(({ ifname, master, linkinfo }) => {
      const kind = linkinfo?.info_kind === 'tun' ? 'tap' : (linkinfo?.info_kind ?? 'link');
      return `${kind} ${ifname}${master === undefined ? '' : ` on ${master}`}`;
    });
}

/** By the ids of their volumes. */
async function secrets(): Promise<string[]> {
  const { stdout } = await run('virsh', ['-q', '-c', 'qemu:///system', 'secret-list']);
  return [...stdout.matchAll(/^ *([0-9a-f-]{36}) /gm)].map(([, id]) => `secret ${id}`);
}

async function tables(): Promise<string[]> {
  const { stdout } = await run('nft', ['-j', 'list', 'tables']);
  const { nftables } = JSON.parse(stdout) as { nftables: { table?: { name: string } }[] };
  return nftables.flatMap(({ table }) => (table === undefined ? [] : [`table ${table.name}`]));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
