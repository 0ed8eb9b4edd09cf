/**
 * Host boot: recognises that the host has booted since the agent ran last, and makes due what is to be started.
 *
 * It is decided in one transaction with the memory of the boot, so that a crash of the agent loses none of it and
 * does nothing twice. What was seen of the guests before the boot says nothing now: it becomes unknown until the host
 * is looked at. The starts themselves are the starter's.
 */
import { timestamp } from '../../drivers/contracts/clock.ts';
import { assertNever } from '../../model/errors.ts';
import type { Instance } from '../../model/instance.ts';
import type { Services } from '../services.ts';
import { NO_RESTARTS } from '../store/instances.ts';

/** A small file of the kernel's; a host that takes longer is not waited for, ms. */
const ASK_TIMEOUT_MS = 5_000;

/** To be called before the guests are looked at. A host that does not tell its boot has not booted, for all we know. */
export async function recogniseBoot(services: Services): Promise<void> {
  const { store, host, log } = services;
  let bootId: string;
  try {
    bootId = await host.bootId({ timeoutMs: ASK_TIMEOUT_MS });
  } catch (error) {
    log.warn({ error }, 'whether the host has booted is not known; no guest is started for it');
    return;
  }
  const known = store.meta.get('boot_id');
  if (known === bootId) return;
  store.db.transaction(() => {
    store.meta.set('boot_id', bootId);
    // A node that has kept no boot before has only just begun to look.
    if (known !== null) for (const instance of store.instances.list()) afterBoot(services, instance);
  });
}

function afterBoot({ store, clock }: Services, instance: Instance): void {
  const { id, lifecycle } = instance;
  if (lifecycle !== 'ready') return;
  const power = {
    state: 'unknown',
    since: timestamp(clock),
    reason: 'the host has booted since it was seen',
  } as const;
  store.instances.setPower(id, power);
  store.instances.setGuest(id, null);
  const isDue = startsAfterBoot(instance);
  store.instances.setDesired(id, isDue ? 'running' : 'stopped');
  store.instances.setRestarts(id, isDue ? { ...NO_RESTARTS, due: 'boot' } : NO_RESTARTS);
  store.tellInstance('instance.changed', id);
}

/** Pure. */
export function startsAfterBoot({ desired, spec }: Pick<Instance, 'desired' | 'spec'>): boolean {
  const { onBoot } = spec.policies;
  switch (onBoot) {
    case 'last-state':
      return desired === 'running';
    case 'always':
      return true;
    case 'never':
      return false;
    default:
      return assertNever(onBoot);
  }
}
