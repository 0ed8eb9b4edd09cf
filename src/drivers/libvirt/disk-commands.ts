/**
 * What changes the disks of a guest that runs. Its definition is another matter (guest-commands.ts).
 *
 * A disk is known by its serial, in the XML that libvirt keeps of the running domain: names of targets and slots are
 * libvirt's to give. Each command looks there first and is idempotent; a guest that does not run has no such disks.
 */
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { VolumeQos } from '../../model/disk.ts';
import type { Clock } from '../contracts/clock.ts';
import type { GuestDisk } from '../contracts/hypervisor.ts';
import { attributeOf, elementsAt, textOf, type XmlElement } from '../host/xml-read.ts';
import { bufferedPaths } from './direct-io.ts';
import { diskDevice, freeTarget, IOTHREAD_ID, scsiController, tuneParameters } from './disk-xml.ts';
import { isLibvirtError } from './errors.ts';
import type { GuestGate } from './guest-gate.ts';
import { disksOf, type LiveDisk, liveDisk, liveXml, thatDisk } from './live-disks.ts';
import { type CommandContext, illegal, runningDomain } from './own-domain.ts';
import { explainPlug } from './slots.ts';
import { untilReleased } from './until-released.ts';
import { writeXml } from './xml.ts';

const { VIR_DOMAIN_AFFECT_LIVE: LIVE } = constants.virDomainModificationImpact;

export class DiskCommands {
  readonly #clock: Clock;
  readonly #gate: GuestGate;

  /** @param gate The one for calls that wait for QEMU. */
  constructor(clock: Clock, gate: GuestGate) {
    this.#clock = clock;
    this.#gate = gate;
  }

  async plug(context: CommandContext, id: string, disk: GuestDisk): Promise<void> {
    const { limits } = context;
    const domain = await runningDomain(context, id);
    if (domain === null) return;
    const live = await liveXml(domain, context);
    const disks = disksOf(live);
    const before = disks.find(({ serial }) => serial === disk.serial);
    if (before !== undefined) return checkSame(id, disk, before);
    if (disk.device?.iothread === true) await this.#ensureIoThread(context, domain, live);
    if (disk.device?.bus === 'scsi') await this.#ensureScsi(context, domain, live);
    const target = freeTarget(disk, new Set(disks.map((each) => each.target)));
    const isBuffered = (await limits.wait(bufferedPaths([disk]), 'command')).size > 0;
    const text = writeXml(diskDevice(disk, { target, bootOrder: null, isBuffered }));
    await this.#attach(context, domain, text);
  }

  async unplug(context: CommandContext, id: string, serial: string): Promise<void> {
    const domain = await runningDomain(context, id);
    if (domain === null) return;
    const isGone = async () => (await liveDisk(domain, context, serial)) === null;
    const release = () => this.#release(context, domain, serial);
    await untilReleased({ context, clock: this.#clock, isGone, release, what: `Guest ${id}`, thing: 'disk' });
    await this.#untilClosed(context, domain);
  }

  async grow(context: CommandContext, id: string, serial: string, sizeBytes: number): Promise<void> {
    const domain = await runningDomain(context, id);
    if (domain === null) throw illegal(id, 'it does not run');
    const { target } = await thatDisk(domain, context, serial);
    const { capacity } = await this.#ask(context, id, (rest) => domain.getBlockInfo(target, 0, rest));
    if (capacity >= BigInt(sizeBytes)) return;
    const { VIR_DOMAIN_BLOCK_RESIZE_BYTES: inBytes } = constants.virDomainBlockResizeFlags;
    await this.#ask(context, id, (rest) => domain.blockResize(target, sizeBytes, inBytes, rest));
  }

  async limit(context: CommandContext, id: string, serial: string, qos: VolumeQos | null): Promise<void> {
    const domain = await runningDomain(context, id);
    if (domain === null) return;
    const { target } = await thatDisk(domain, context, serial);
    await this.#ask(context, id, (rest) => domain.setBlockIoTune(target, tuneParameters(qos), LIVE, rest));
  }

  #ask<T>(
    { limits }: CommandContext,
    id: string,
    call: (rest: { timeoutMs: number }) => Promise<T>,
  ): Promise<T> {
    return this.#gate.run(id, limits, 'command', call);
  }

  async #release(context: CommandContext, domain: Domain, serial: string): Promise<void> {
    const element = (await liveDisk(domain, context, serial))?.target;
    if (element === undefined) return;
    const text = `<disk type='file' device='disk'><target dev='${element}'/></disk>`;
    await this.#ask(context, domain.uuid, (rest) => domain.detachDeviceFlags(text, LIVE, rest));
  }

  /**
   * libvirt takes a disk out of its XML first, and then has QEMU close its file and takes the file back from QEMU, all in
   * one job on the domain. A query that has to wait for that job says when all of it is done.
   *
   * @see qemuDomainRemoveDiskDevice, qemu_hotplug.c
   */
  async #untilClosed(context: CommandContext, domain: Domain): Promise<void> {
    try {
      await this.#ask(context, domain.uuid, (rest) => domain.getIOThreadInfo(LIVE, rest));
    } catch (error) {
      const isOff =
        isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID') || isLibvirtError(error, 'VIR_ERR_NO_DOMAIN');
      if (!isOff) throw error;
    }
  }

  async #attach(context: CommandContext, domain: Domain, device: string): Promise<void> {
    try {
      await this.#ask(context, domain.uuid, (rest) => domain.attachDeviceFlags(device, LIVE, rest));
    } catch (error) {
      throw explainPlug(error, domain.uuid, 'disk');
    }
  }

  /** libvirt would make one of its own accord, of a model that q35 has no slots for. */
  async #ensureScsi(context: CommandContext, domain: Domain, live: XmlElement): Promise<void> {
    const controllers = elementsAt(live, 'devices', 'controller');
    if (controllers.some((controller) => attributeOf(controller, 'type') === 'scsi')) return;
    await this.#attach(context, domain, writeXml(scsiController()));
  }

  async #ensureIoThread(context: CommandContext, domain: Domain, live: XmlElement): Promise<void> {
    const count = Number(textOf(elementsAt(live, 'iothreads')[0] ?? {})) || 0;
    if (count > 0) return;
    await this.#ask(context, domain.uuid, (rest) => domain.addIOThread(IOTHREAD_ID, LIVE, rest));
  }
}

function checkSame(id: string, disk: GuestDisk, { path }: LiveDisk): void {
  if (path === disk.path) return;
  throw new AgentError(
    'HOST_CONFLICT',
    `Guest ${id} has another disk with the serial ${disk.serial}: ${path}`,
  );
}
