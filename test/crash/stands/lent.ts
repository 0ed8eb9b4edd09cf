/**
 * Volumes of another node, in the pool that both have: what an instance is taken over with.
 *
 * Whatever becomes of that, one of the two nodes has each.
 */
import { existsSync, readdirSync } from 'node:fs';
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
};
const GIB = 1024 ** 3;

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
export async function lendVolumes({ root, stateDir }: { root: string; stateDir: string }): Promise<void> {
  const parts = { name: 'common', root, machine: null, known: new Map(), isShared: true };
  const memoryPath = join(stateDir, 'lent.json');
  const ground = { mark: new PoolMark({ ...parts, memoryPath }), mount: null, isShared: true };
  const pool = new Qcow2Pool({ name: 'common', path: root, exec: new HostExec(), ground });
  pool.enterNode(LENT.node);
  await pool.prepare();
  for (const id of LENT.volumes)
    await pool.makeVolume({ id, sizeBytes: GIB, image: null, label: lentLabel(id) });
}

/** A line for each that that node has, and the folder of the node that is looked at; null where there is none yet. */
export function lookAtLent(root: string): { lines: string[]; own: string | null } {
  const nodes = join(root, NODES_FOLDER);
  const names = existsSync(nodes) ? readdirSync(nodes) : [];
  const own = names.find((name) => name !== LENT.node);
  const isThere = (volume: string) => existsSync(join(nodes, LENT.node, 'volumes', `${volume}.qcow2`));
  return {
    lines: LENT.volumes.filter(isThere).map(lentLine),
    own: own === undefined ? null : join(nodes, own),
  };
}
