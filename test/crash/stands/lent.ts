/**
 * Volumes of another node, in the pool that both have: what an instance is taken over with.
 *
 * Whatever becomes of that, one of the two nodes has each.
 */
import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { NODES_FOLDER } from '../../../src/drivers/qcow2/layout.ts';
import { PoolMark } from '../../../src/drivers/qcow2/pool-mark.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';

/** UUIDs of the other node, of its instance, and, with other beginnings as disks have by their serials, of the volumes that were made with that. */
export const LENT = {
  node: '0de00000-0000-4000-8000-000000000000',
  instance: '0de00000-0000-4000-8000-000000000001',
  volumes: ['0de00001-0000-4000-8000-000000000000', '0de00002-0000-4000-8000-000000000000'],
  /** Above the first volume, each on the one before; one snapshot keeps its own file, another one the first of them. */
  layers: ['0de00003-0000-4000-8000-000000000000', '0de00004-0000-4000-8000-000000000000'],
  snapshots: ['0de00005-0000-4000-8000-000000000000', '0de00006-0000-4000-8000-000000000000'],
};
const GIB = 1024 ** 3;

export interface Lending {
  /** With layers and the record of snapshots. @default false */
  snapshots?: boolean;
  /** With what the firmware of its guest kept; simulated hosts alone. @default false */
  variables?: boolean;
}

/** What the other node has written down of the snapshots. */
export function lentRecord(instance: string): string {
  const [boot = '', data = ''] = LENT.volumes;
  const kept = [null, LENT.layers[0] as string];
  return JSON.stringify({
    version: 1,
    instanceId: LENT.instance,
    instance,
    volumes: [
      { id: boot, active: LENT.layers[1] },
      { id: data, active: null },
    ],
    snapshots: LENT.snapshots.map((id, at) => ({
      id,
      name: `snap${at}`,
      parentId: LENT.snapshots[at - 1] ?? null,
      current: at === 1,
      quiesced: false,
      createdAt: `2026-01-02T03:04:0${at}.678Z`,
      memoryVolumeId: null,
      disks: [
        { volumeId: boot, sizeGib: 1, layer: kept[at] ?? null },
        { volumeId: data, sizeGib: 1, layer: null },
      ],
    })),
  });
}

/** How a stand tells that the other node has the firmware variables. */
export function lentVariablesLine(): string {
  return lentLine(`${LENT.volumes[0]}.${LENT.instance}.nvram`);
}

/** How a stand tells that the other node has a layer. */
export function lentLayerLine(layer: string): string {
  return lentLine(`${LENT.volumes[0]}.${layer}`);
}

export function lentName(volume: string): string {
  return `web-disk${LENT.volumes.indexOf(volume)}`;
}

export function lentLabel(volume: string) {
  return { name: lentName(volume), createdAt: '2026-01-02T03:04:05.678Z', instanceId: LENT.instance };
}

/** How a stand tells that the other node has one. */
export function lentLine(volume: string): string {
  return `lent ${volume}`;
}

/** Puts the volumes where the other node has them, on a real host. */
export async function lendVolumes(
  { root, stateDir }: { root: string; stateDir: string },
  { snapshots = false }: Lending = {},
): Promise<void> {
  const parts = { name: 'common', root, machine: null, known: new Map(), isShared: true };
  const memoryPath = join(stateDir, 'lent.json');
  const ground = { mark: new PoolMark({ ...parts, memoryPath }), mount: null, isShared: true };
  const pool = new Qcow2Pool({ name: 'common', path: root, exec: new HostExec(), ground });
  pool.enterNode(LENT.node);
  await pool.prepare();
  for (const id of LENT.volumes) {
    await pool.removeVolume(id);
    await pool.makeVolume({ id, sizeBytes: GIB, image: null, label: lentLabel(id) });
  }
  if (!snapshots) return;
  const volumeId = LENT.volumes[0] as string;
  for (const [at, layer] of LENT.layers.entries())
    await pool.makeLayer({ volumeId, layer, parent: LENT.layers[at - 1] ?? null, sizeBytes: GIB });
  await pool.writeSnapshotRecord({ volumeId, instanceId: LENT.instance }, lentRecord('web'));
  // As the guest of a node that has lost its power leaves them: libvirt relabels no file below a disk's first one.
  const [uid, gid] = ['-u', '-g'].map((which) => Number(execFileSync('id', [which, 'libvirt-qemu']))) as [
    number,
    number,
  ];
  for (const layer of [null, ...LENT.layers]) chownSync(pool.paths.layer(volumeId, layer), uid, gid);
}

/** A line for each that that node has, and the folder of the node that is looked at; null where there is none yet. */
export function lookAtLent(root: string): { lines: string[]; own: string | null } {
  const nodes = join(root, NODES_FOLDER);
  const names = existsSync(nodes) ? readdirSync(nodes) : [];
  const own = names.find((name) => name !== LENT.node);
  const isThere = (volume: string) => existsSync(join(nodes, LENT.node, 'volumes', `${volume}.qcow2`));
  const [boot] = LENT.volumes;
  const layers = LENT.layers.filter((layer) => isThere(`${boot}.${layer}`));
  return {
    lines: [...LENT.volumes.filter(isThere).map(lentLine), ...layers.map(lentLayerLine)],
    own: own === undefined ? null : join(nodes, own),
  };
}
