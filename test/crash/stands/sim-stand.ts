/**
 * The simulated host: a world in a file, which is read as another process left it.
 *
 * It lies outside of the node's folders: when those are full or broken, the host goes on.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { createSimHost } from '../../../src/drivers/sim/index.ts';
import type { SimGuest, WorldState } from '../../../src/drivers/sim/state.ts';
import { readState } from '../../../src/drivers/sim/state-file.ts';
import { LabNode, OTHER_POOL, SHARED_POOL } from '../node/lab-node.ts';
import { cannotMount, Disk } from './disk.ts';
import { LENT, type Lending, lentLine } from './lent.ts';
import type { Stand } from './stand.ts';

const IMAGE = '/images/tiny.qcow2';
/** The store's database and its log have some MiB. */
const STATE_MIB = 64;
const OTHER = { name: OTHER_POOL, root: '/sim/other', bytes: 1024 ** 4 };
const SHARED = { name: SHARED_POOL, root: '/sim/common', bytes: 1024 ** 4, shared: true };
/** A sim's CPU costs nothing. */
const SETTINGS = { cpus: 64, memoryMib: 65_536, findings: [], pools: [OTHER, SHARED] };

export class SimStand implements Stand {
  readonly driver = 'sim';
  readonly image = { source: IMAGE, format: 'qcow2' } as const;
  readonly node: LabNode;
  readonly stateDisk: Disk | null;
  readonly poolDisk = null;
  readonly daemon = null;
  readonly #world: string;

  constructor(folder: string) {
    if (cannotMount() === false) execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', folder]);
    this.#world = join(folder, 'world.json');
    const { world } = createSimHost({ statePath: this.#world, ...SETTINGS });
    world.sources.set(IMAGE, { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: 1024 ** 3 });
    world.touch();
    world.flush();
    this.node = new LabNode({ folder: join(folder, 'node'), driver: 'sim', world: this.#world });
    this.stateDisk = cannotMount() === false ? stateDisk(folder, this.node.stateDir) : null;
  }

  async host(): Promise<string[]> {
    const { settings, guests, files, bridges, devices, secrets } = this.#read();
    return [
      ...[...guests.values()].map(({ id, power }) => `guest ${id} ${power}`),
      ...[...guests.values()].flatMap(({ id, frozen }) => (frozen === true ? [`frozen ${id}`] : [])),
      // One is gone on from; nothing needs those before it.
      ...[...guests.values()].flatMap(({ id, checkpoints = [] }) =>
        checkpoints.slice(1).map(({ name }) => `checkpoint ${id} ${name}`),
      ),
      ...[...files.keys()]
        .filter(isTold)
        .map((path) =>
          isLent(path) ? lentLine(basename(path, '.qcow2')) : `file ${nameOf(path, settings)}`,
        ),
      ...[...bridges.values()].flatMap(({ name, plan, ports }) => [
        `bridge ${name}`,
        ...Object.keys(ports).map((port) => `port ${plan?.id} ${port}`),
      ]),
      ...[...secrets.keys()].map((id) => `secret ${id}`),
      ...[...devices].map(([device, bridge]) => `tap ${device} on ${bridge}`),
    ];
  }

  async processes(): Promise<Map<string, string>> {
    const running = [...this.#read().guests.values()].filter(({ live }) => live !== null);
    return new Map(running.map((guest) => [guest.id, `boot ${bootOf(guest)}`]));
  }

  async leaveConsole(id: string): Promise<void> {
    await this.node.deed({ do: 'world', change: { type: 'leave-console', id } });
  }

  async lendVolumes(lending: Lending = {}): Promise<void> {
    await this.node.deed({ do: 'world', change: { type: 'lend-volumes', lending } });
  }

  async close(): Promise<void> {
    await this.node.close();
  }

  #read(): WorldState {
    const saved = readState(this.#world);
    if (saved === null) throw new Error('the simulated host is gone');
    return saved.state;
  }
}

/** A second start is a second boot; one that boots right now counts already. */
function bootOf({ boots, booted }: SimGuest): number {
  return booted ? boots : boots + 1;
}

function stateDisk(folder: string, path: string): Disk {
  const images = join(folder, 'images');
  mkdirSync(images, { recursive: true });
  return new Disk({ path, images, name: 'state', sizeMib: STATE_MIB });
}

/** Of what the other node has: disks and firmware variables alone. */
function isTold(path: string): boolean {
  return !isLent(path) || /\.(?:qcow2|nvram)$/.test(path);
}

function isLent(path: string): boolean {
  return path.startsWith(`${SHARED.root}/nodes/${LENT.node}/`);
}

/** Of a file: within the default pool, or within another one, behind its name; there within the node's folder. */
function nameOf(path: string, { poolRoot }: WorldState['settings']): string {
  if (path.startsWith(`${SHARED.root}/`)) return `${SHARED_POOL}/${path.split('/').slice(-2).join('/')}`;
  const inOther = relative(OTHER.root, path);
  return inOther.startsWith('..') ? relative(poolRoot, path) : `${OTHER_POOL}/${inOther}`;
}
