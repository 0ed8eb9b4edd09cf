/**
 * A volume of another node, in the pool that both have: what an instance is taken over with.
 *
 * Whatever becomes of that, one of the two nodes has it.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { NODES_FOLDER } from '../../../src/drivers/qcow2/layout.ts';
import { PoolMark } from '../../../src/drivers/qcow2/pool-mark.ts';
import { Qcow2Pool } from '../../../src/drivers/qcow2/pool.ts';

/** UUIDs of the other node, of its instance, and of the volume that was made with that. */
export const LENT = {
  node: '0de00000-0000-4000-8000-000000000000',
  instance: '0de00000-0000-4000-8000-000000000001',
  volume: '0de00000-0000-4000-8000-000000000002',
};
export const LENT_LABEL = {
  name: 'web-disk0',
  createdAt: '2026-01-02T03:04:05.678Z',
  instanceId: LENT.instance,
};
const GIB = 1024 ** 3;

/** How a stand tells that the other node has it. */
export const LENT_LINE = `lent ${LENT.volume}`;

/** Puts the volume where the other node has it, on a real host. */
export async function lendVolume({ root, stateDir }: { root: string; stateDir: string }): Promise<void> {
  const parts = { name: 'common', root, machine: null, known: new Map(), isShared: true };
  const memoryPath = join(stateDir, 'lent.json');
  const ground = { mark: new PoolMark({ ...parts, memoryPath }), mount: null, isShared: true };
  const pool = new Qcow2Pool({ name: 'common', path: root, exec: new HostExec(), ground });
  pool.enterNode(LENT.node);
  await pool.prepare();
  await pool.makeVolume({ id: LENT.volume, sizeBytes: GIB, image: null, label: LENT_LABEL });
}

/** The line where that node has it, and the folder of the node that is looked at; null where there is none yet. */
export function lookAtLent(root: string): { lines: string[]; own: string | null } {
  const nodes = join(root, NODES_FOLDER);
  const names = existsSync(nodes) ? readdirSync(nodes) : [];
  const own = names.find((name) => name !== LENT.node);
  const isThere = existsSync(join(nodes, LENT.node, 'volumes', `${LENT.volume}.qcow2`));
  return { lines: isThere ? [LENT_LINE] : [], own: own === undefined ? null : join(nodes, own) };
}
