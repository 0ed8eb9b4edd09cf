/**
 * One domain: libvirt's own functions on it, with plain values in and out.
 *
 * A Domain holds a name, a UUID and an id, and no state. The daemon finds domains by UUID, so a stale id does no harm.
 * Functions that wait for QEMU, the guest or the disk use the long channels; those that must get through while others
 * hang (destroy, abort of a job) use the control channel.
 *
 * Every function takes `{ timeoutMs, signal }` last, and throws LibvirtError (for example VIR_ERR_NO_DOMAIN,
 * VIR_ERR_OPERATION_INVALID), LibvirtTransportError and LibvirtUsageError.
 *
 * @see libvirt-domain.h for flags and states
 */
import type { Connection } from './connection.ts';
import { LibvirtTransportError } from './errors.ts';
import type { DomainInterface, NonnullDomain } from './protocol/types.gen.ts';
import type { CallOptions } from './rpc/calls.ts';
import type { LibvirtStream } from './rpc/stream.ts';
import { exact, type TypedValue, typedParamsToObject } from './typed-params.ts';

export interface DomainInfo {
  /** virDomainState */
  state: number;
  maxMemoryKib: number;
  memoryKib: number;
  vcpus: number;
  /** Nanoseconds; a bigint once it is too large to be exact otherwise (104 days). */
  cpuTimeNs: number | bigint;
}

export interface BlockInfo {
  /** What the guest sees. */
  capacityBytes: number | bigint;
  /** What is written; for files, up to the highest byte. */
  allocationBytes: number | bigint;
  /** What the container takes on the host. */
  physicalBytes: number | bigint;
}

/** Milliseconds that an agent command may take beyond the seconds given to the guest agent. */
const AGENT_MARGIN_MS = 5_000;

/** Largest screenshot that is collected: an uncompressed 4K screen is 25 MB. */
const SCREENSHOT_MAX_BYTES = 64 * 1024 * 1024;

export class Domain implements NonnullDomain {
  readonly name: string;
  /** Lower case, with dashes. */
  readonly uuid: string;
  /** As it was when this was looked up; -1 for a domain that did not run. */
  readonly id: number;
  readonly #connection: Connection;

  constructor(connection: Connection, { name, uuid, id }: NonnullDomain) {
    this.#connection = connection;
    this.name = name;
    this.uuid = uuid;
    this.id = id;
  }

  /** Starts a defined domain. @param flags virDomainCreateFlags @returns The domain with its new id. */
  async createWithFlags(flags = 0, options?: CallOptions): Promise<Domain> {
    const { dom } = await this.#connection.call(
      'domainCreateWithFlags',
      { dom: this.#ref(), flags },
      long(options),
    );
    return new Domain(this.#connection, dom);
  }

  /** Asks the guest to shut down, and does not wait for it. @param flags virDomainShutdownFlagValues */
  async shutdownFlags(flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainShutdownFlags', { dom: this.#ref(), flags }, long(options));
  }

  /** Stops the domain at once. @param flags virDomainDestroyFlagsValues */
  async destroyFlags(flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call(
      'domainDestroyFlags',
      { dom: this.#ref(), flags },
      { role: 'control', ...options },
    );
  }

  /** Asks the guest to reboot. @param flags virDomainRebootFlagValues */
  async reboot(flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainReboot', { dom: this.#ref(), flags }, long(options));
  }

  /** Resets the machine, as its button would. */
  async reset(flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainReset', { dom: this.#ref(), flags }, long(options));
  }

  async suspend(options?: CallOptions): Promise<void> {
    await this.#connection.call('domainSuspend', { dom: this.#ref() }, long(options));
  }

  async resume(options?: CallOptions): Promise<void> {
    await this.#connection.call('domainResume', { dom: this.#ref() }, long(options));
  }

  /** Removes the definition. @param flags virDomainUndefineFlagsValues */
  async undefineFlags(flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainUndefineFlags', { dom: this.#ref(), flags }, long(options));
  }

  async getInfo(options?: CallOptions): Promise<DomainInfo> {
    const info = await this.#connection.call('domainGetInfo', { dom: this.#ref() }, options);
    return {
      state: info.state,
      maxMemoryKib: Number(info.maxMem),
      memoryKib: Number(info.memory),
      vcpus: info.nrVirtCpu,
      cpuTimeNs: exact(info.cpuTime),
    };
  }

  /** @returns virDomainState, and the reason, whose meaning depends on it (virDomainRunningReason and so on). */
  async getState(options?: CallOptions): Promise<{ state: number; reason: number }> {
    return this.#connection.call('domainGetState', { dom: this.#ref(), flags: 0 }, options);
  }

  /** @param flags virDomainXMLFlags */
  async getXMLDesc(flags = 0, options?: CallOptions): Promise<string> {
    return (await this.#connection.call('domainGetXmlDesc', { dom: this.#ref(), flags }, options)).xml;
  }

  /**
   * Sets or, with null, removes metadata.
   *
   * @param type virDomainMetadataType. @param key Namespace prefix. @param uri Namespace; both only for ELEMENT.
   * @param flags virDomainModificationImpact
   */
  async setMetadata(
    type: number,
    metadata: string | null,
    key: string | null = null,
    uri: string | null = null,
    flags = 0,
    options?: CallOptions,
  ): Promise<void> {
    await this.#connection.call(
      'domainSetMetadata',
      { dom: this.#ref(), type, metadata, key, uri, flags },
      long(options),
    );
  }

  /** @throws {LibvirtError} VIR_ERR_NO_DOMAIN_METADATA */
  async getMetadata(
    type: number,
    uri: string | null = null,
    flags = 0,
    options?: CallOptions,
  ): Promise<string> {
    return (await this.#connection.call('domainGetMetadata', { dom: this.#ref(), type, uri, flags }, options))
      .metadata;
  }

  /**
   * Addresses of the guest's interfaces.
   *
   * @param source virDomainInterfaceAddressesSource: 0 leases of libvirt's own DHCP, 1 guest agent, 2 ARP table.
   */
  async interfaceAddresses(source = 0, flags = 0, options?: CallOptions): Promise<DomainInterface[]> {
    const args = { dom: this.#ref(), source, flags };
    return (await this.#connection.call('domainInterfaceAddresses', args, long(options))).ifaces;
  }

  /**
   * Sends a command to the guest agent.
   *
   * @param command JSON text, for example '{"execute":"guest-ping"}'.
   * @param options.timeoutSeconds What the daemon gives the agent; -2 for ever, -1 its default, 0 no wait.
   * @returns The agent's reply as JSON text: the guest wrote it, so it is to be distrusted.
   * @throws {LibvirtError} VIR_ERR_AGENT_UNRESPONSIVE after that time, VIR_ERR_AGENT_COMMAND_FAILED.
   */
  async qemuAgentCommand(
    command: string,
    options: CallOptions & { timeoutSeconds?: number; flags?: number } = {},
  ): Promise<string> {
    const { timeoutSeconds = -1, flags = 0, ...limits } = options;
    if (timeoutSeconds > 0) limits.timeoutMs ??= timeoutSeconds * 1000 + AGENT_MARGIN_MS;
    const args = { dom: this.#ref(), cmd: command, timeout: timeoutSeconds, flags };
    return (await this.#connection.call('qemuDomainAgentCommand', args, long(limits))).result ?? '';
  }

  /** Sends a QMP command (JSON text), or an HMP one with flag 1. The daemon marks the domain as tainted. */
  async qemuMonitorCommand(command: string, flags = 0, options?: CallOptions): Promise<string> {
    const args = { dom: this.#ref(), cmd: command, flags };
    return (await this.#connection.call('qemuDomainMonitorCommand', args, long(options))).result;
  }

  /**
   * Opens a console.
   *
   * @param device Alias of the character device; null for the first console.
   * @param flags virDomainConsoleFlags: 1 takes it from whoever has it, 2 only if that is safe.
   * @returns A Duplex of bytes; a slow reader slows the guest's console down. Destroy it when done.
   */
  async openConsole(device: string | null = null, flags = 0, options?: CallOptions): Promise<LibvirtStream> {
    const args = { dom: this.#ref(), dev_name: device, flags };
    return (await this.#connection.openStream('domainOpenConsole', args, options)).stream;
  }

  /** @param memoryKib Size in KiB. @param flags virDomainMemoryModFlags */
  async setMemoryFlags(memoryKib: number, flags = 0, options?: CallOptions): Promise<void> {
    const args = { dom: this.#ref(), memory: BigInt(memoryKib), flags };
    await this.#connection.call('domainSetMemoryFlags', args, long(options));
  }

  /** @param flags virDomainVcpuFlags */
  async setVcpusFlags(vcpus: number, flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call(
      'domainSetVcpusFlags',
      { dom: this.#ref(), nvcpus: vcpus, flags },
      long(options),
    );
  }

  /** @param flags virDomainDeviceModifyFlags, for all three */
  async attachDeviceFlags(xml: string, flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainAttachDeviceFlags', { dom: this.#ref(), xml, flags }, long(options));
  }

  /** Asks for the removal; the guest has to agree, and then a deviceRemoved event comes. */
  async detachDeviceFlags(xml: string, flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainDetachDeviceFlags', { dom: this.#ref(), xml, flags }, long(options));
  }

  async updateDeviceFlags(xml: string, flags = 0, options?: CallOptions): Promise<void> {
    await this.#connection.call('domainUpdateDeviceFlags', { dom: this.#ref(), xml, flags }, long(options));
  }

  /** @param flags virDomainGetJobStatsFlags @returns virDomainJobType, and its figures by name. */
  async getJobStats(
    flags = 0,
    options?: CallOptions,
  ): Promise<{ type: number; stats: Record<string, TypedValue> }> {
    const reply = await this.#connection.call('domainGetJobStats', { dom: this.#ref(), flags }, options);
    return { type: reply.type, stats: typedParamsToObject(reply.params) };
  }

  /** Cancels the running job. */
  async abortJob(options?: CallOptions): Promise<void> {
    await this.#connection.call('domainAbortJob', { dom: this.#ref() }, { role: 'control', ...options });
  }

  /** Resizes a disk of a running domain. @param disk Target or path. @param sizeBytes New size. */
  async blockResize(
    disk: string,
    sizeBytes: number | bigint,
    flags = 1,
    options?: CallOptions,
  ): Promise<void> {
    const args = { dom: this.#ref(), disk, size: BigInt(sizeBytes), flags };
    await this.#connection.call('domainBlockResize', args, long(options));
  }

  /** @param disk Target or path. */
  async getBlockInfo(disk: string, flags = 0, options?: CallOptions): Promise<BlockInfo> {
    const info = await this.#connection.call(
      'domainGetBlockInfo',
      { dom: this.#ref(), path: disk, flags },
      long(options),
    );
    return {
      capacityBytes: exact(info.capacity),
      allocationBytes: exact(info.allocation),
      physicalBytes: exact(info.physical),
    };
  }

  /** Takes a picture of a screen, at most 64 MiB. @returns The MIME type (QEMU: image/x-portable-pixmap or image/png). */
  async screenshot(screen = 0, options?: CallOptions): Promise<{ mimeType: string | null; data: Buffer }> {
    const args = { dom: this.#ref(), screen, flags: 0 };
    const { reply, stream } = await this.#connection.openStream('domainScreenshot', args, options);
    return { mimeType: reply.mime, data: await collect(stream) };
  }

  #ref(): NonnullDomain {
    return { name: this.name, uuid: this.uuid, id: this.id };
  }
}

function long(options: CallOptions | undefined): CallOptions & { role: 'long' } {
  return { ...options, role: 'long' };
}

async function collect(stream: LibvirtStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > SCREENSHOT_MAX_BYTES) throw new LibvirtTransportError('limit', 'the screenshot is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}
