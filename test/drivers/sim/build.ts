/**
 * What an agent does to a host to have one guest run: each call once, all of them idempotent.
 */
import type { SimHost } from '../../../src/drivers/sim/index.ts';
import { networkPlan, portPlan } from '../contract/network-rig.ts';
import { guestDefinition } from './rig.ts';

export const INSTANCE_ID = '11111111-2222-4333-8444-555555555555';
const IMAGE_ID = '22222222-2222-4333-8444-555555555555';
export const SOURCE = '/images/a.qcow2';
export const SOURCE_FACTS = { sha256: 'ef'.repeat(32), sizeBytes: 1_000, virtualSizeBytes: 1_048_576 };

export async function build({ hypervisor, pool, network }: SimHost): Promise<void> {
  const plan = networkPlan(network, 1);
  const port = portPlan(plan, 1);
  await network.ensureNetwork(plan);
  await network.ensurePort(plan, port);
  await pool.makeImage({ id: IMAGE_ID, source: SOURCE, format: 'qcow2', sha256: SOURCE_FACTS.sha256 });
  const image = { id: IMAGE_ID, format: 'qcow2' } as const;
  await pool.makeVolume({ id: INSTANCE_ID, sizeBytes: SOURCE_FACTS.virtualSizeBytes, image });
  const backing = { path: pool.paths.image(IMAGE_ID, 'qcow2'), format: 'qcow2' } as const;
  const path = pool.paths.volume(INSTANCE_ID);
  await hypervisor.define(
    guestDefinition({
      id: INSTANCE_ID,
      disks: [{ serial: 'root', path, format: 'qcow2', readOnly: false, backing }],
      nics: [{ macAddress: port.macAddress, bridge: plan.bridge, tapName: network.tapName(port.id) }],
    }),
  );
  await hypervisor.start(INSTANCE_ID);
}
