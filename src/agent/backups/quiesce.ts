/**
 * A guest's file systems, flushed and frozen for the moment at which its disks begin to be copied, and no longer:
 *
 *   freeze ─▶ copy begins ─▶ moment ─▶ thaw        copy goes on
 *        └── FROZEN_MS at most ────────┘
 *
 * A berthd that is killed in between leaves the guest frozen. The step is in the journal by then, and the first thing
 * that its recovery does, whether it is done again or undone, is to thaw (`thawAfterCrash`).
 */
import { AgentError } from '../../model/errors.ts';
import type { Consistency } from '../../model/backup.ts';
import type { Quiesce } from '../../model/snapshot.ts';
import type { Services } from '../services.ts';

/** What guests bear: a frozen Windows gives up by itself after as long, ms. */
const FROZEN_MS = 10_000;
/** For the thaw, whatever has become of the operation, ms. */
const THAW_TIMEOUT_MS = 15_000;

export interface QuiesceRequest {
  /** Of the instance. */
  id: string;
  quiesce: Quiesce;
}

/** Copies, and says what the copy is like. @throws {AgentError} ILLEGAL_STATE: it is required, and no agent has done it. */
export async function copyQuiesced(
  services: Services,
  { id, quiesce }: QuiesceRequest,
  signal: AbortSignal,
  copy: (onMoment: () => Promise<void>) => Promise<void>,
): Promise<Consistency> {
  if (quiesce === 'never' || !(await freeze(services, { id, quiesce }, signal))) {
    await copy(async () => undefined);
    return 'crash';
  }
  const frozen = new FrozenGuest(services, id);
  try {
    await copy(async () => {
      await frozen.thaw();
      if (frozen.wasLate && quiesce === 'required')
        throw new AgentError('DEADLINE_EXCEEDED', 'The copy had not begun before the guest had to be thawed');
    });
  } finally {
    await frozen.thaw();
  }
  return frozen.wasLate ? 'crash' : 'file-system';
}

/** Where no agent answers there is nobody who would have frozen the guest. */
export async function thawAfterCrash(
  { hypervisor }: Services,
  { id, quiesce }: QuiesceRequest,
  signal: AbortSignal,
): Promise<void> {
  if (quiesce !== 'never') await hypervisor.thawGuest(id, { signal });
}

async function freeze(
  { hypervisor }: Services,
  { id, quiesce }: QuiesceRequest,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await hypervisor.freezeGuest(id, { signal });
    return true;
  } catch (error) {
    // It may have frozen some.
    await hypervisor.thawGuest(id, { timeoutMs: THAW_TIMEOUT_MS });
    const { code, message, hint } = AgentError.from(error);
    if (code !== 'UNAVAILABLE') throw error;
    if (quiesce === 'required')
      throw new AgentError('ILLEGAL_STATE', message, { cause: error, ...(hint !== undefined && { hint }) });
    return false;
  }
}

class FrozenGuest {
  readonly #services: Services;
  readonly #id: string;
  readonly #cancel: () => void;
  #thawed: Promise<void> | null = null;
  /** Its time was over before it was thawed. */
  wasLate = false;

  constructor(services: Services, id: string) {
    this.#services = services;
    this.#id = id;
    this.#cancel = services.clock.after(FROZEN_MS, () => {
      this.wasLate = true;
      // Whoever thaws it next hears of a failure.
      this.thaw().catch(() => undefined);
    });
  }

  /** Once. @throws {AgentError} UNAVAILABLE: the agent that has frozen it does not answer any more. */
  thaw(): Promise<void> {
    this.#cancel();
    this.#thawed ??= this.#thaw();
    return this.#thawed;
  }

  async #thaw(): Promise<void> {
    const { hypervisor } = this.#services;
    if (await hypervisor.thawGuest(this.#id, { timeoutMs: THAW_TIMEOUT_MS })) return;
    throw new AgentError(
      'UNAVAILABLE',
      'The agent in the guest has frozen its file systems, and does not thaw them',
      {
        hint: 'See whether the guest goes on; virsh domfsthaw thaws it, and so does its restart.',
      },
    );
  }
}
