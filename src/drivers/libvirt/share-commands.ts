/**
 * What changes the shares of a guest that runs. Its definition is another matter (guest-commands.ts).
 *
 * A share is known by its tag, in the XML that libvirt keeps of the running domain. As for disks, each command looks
 * there first and is idempotent; a guest that does not run has no such shares.
 */
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { GuestShare, ShapeShare } from '../contracts/hypervisor.ts';
import { elementsAt, type XmlElement } from '../host/xml-read.ts';
import { isLibvirtError } from './errors.ts';
import type { GuestGate } from './guest-gate.ts';
import { liveXml } from './live-disks.ts';
import { type CommandContext, illegal, runningDomain } from './own-domain.ts';
import { explainPlug } from './slots.ts';
import { shareDevice, shareOf, sharesMemory } from './share-xml.ts';
import { untilReleased } from './until-released.ts';
import { writeXml } from './xml.ts';

const { VIR_DOMAIN_AFFECT_LIVE: LIVE } = constants.virDomainModificationImpact;

export class ShareCommands {
  readonly #clock: Clock;
  readonly #gate: GuestGate;
  readonly #readOnlyProgram: string;

  /** @param gate The one for calls that wait for QEMU. */
  constructor(clock: Clock, gate: GuestGate, readOnlyProgram: string) {
    this.#clock = clock;
    this.#gate = gate;
    this.#readOnlyProgram = readOnlyProgram;
  }

  async plug(context: CommandContext, id: string, share: GuestShare): Promise<void> {
    const domain = await runningDomain(context, id);
    if (domain === null) return;
    const text = writeXml(shareDevice(share, this.#readOnlyProgram));
    const live = await liveXml(domain, context);
    const before = sharesOf(live).find(({ tag }) => tag === share.tag);
    if (before !== undefined) return checkSame(id, share, before);
    if (!sharesMemory(live)) throw notShared(id);
    await assertControlled(domain, context);
    try {
      await this.#gate.run(id, context.limits, 'command', (rest) =>
        domain.attachDeviceFlags(text, LIVE, rest),
      );
    } catch (error) {
      throw explainPlug(error, id, 'share');
    }
  }

  async unplug(context: CommandContext, id: string, tag: string): Promise<void> {
    const domain = await runningDomain(context, id);
    if (domain === null) return;
    const find = async () => sharesOf(await liveXml(domain, context)).find((share) => share.tag === tag);
    const release = async () => {
      const share = await find();
      if (share?.path != null) await this.#release(context, domain, share as GuestShare);
    };
    const isGone = async () => (await find()) === undefined;
    await untilReleased({
      context,
      clock: this.#clock,
      isGone,
      release,
      what: `Guest ${id}`,
      thing: 'share',
    });
  }

  async #release({ limits }: CommandContext, domain: Domain, share: GuestShare): Promise<void> {
    const text = writeXml(shareDevice(share, this.#readOnlyProgram));
    await this.#gate.run(domain.uuid, limits, 'command', (rest) =>
      domain.detachDeviceFlags(text, LIVE, rest),
    );
  }
}

/**
 * libvirt 9.0 puts the daemon of a share that is plugged in into the guest's control group without a look whether it has
 * one, and dies where it has none, as in a container. It says which parameters of a controller a guest has; one that
 * has any has a group.
 *
 * @see qemuVirtioFSSetupCgroup, qemu_virtiofs.c
 * @throws {AgentError} UNSUPPORTED
 */
async function assertControlled(domain: Domain, { limits }: CommandContext): Promise<void> {
  const looks = [
    () => domain.getMemoryParameters(LIVE, limits.next()),
    () => domain.getSchedulerParametersFlags(LIVE, limits.next()),
  ];
  for (const look of looks) {
    try {
      await look();
      return;
    } catch (error) {
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
    }
  }
  throw new AgentError(
    'UNSUPPORTED',
    `Guest ${domain.uuid} has no control group, and libvirt plugs no share in`,
    {
      hint: 'Stop the instance, attach the share, and start it.',
    },
  );
}

function sharesOf(live: XmlElement): ShapeShare[] {
  return elementsAt(live, 'devices', 'filesystem').map(shareOf);
}

function checkSame(id: string, share: GuestShare, before: ShapeShare): void {
  if (before.path === share.path && before.readOnly === share.readOnly) return;
  throw new AgentError(
    'HOST_CONFLICT',
    `Guest ${id} has another share with the tag ${share.tag}: ${before.path}`,
  );
}

function notShared(id: string): AgentError {
  const { message, code } = illegal(
    id,
    'it was started without a share, and its memory is its own until it stops',
  );
  return new AgentError(code, message, {
    hint: 'Stop the instance, attach the share, and start it: further shares can then be attached while it runs.',
  });
}
