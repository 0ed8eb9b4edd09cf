/**
 * What changes a guest: each command looks at the host first, is idempotent, and refuses a foreign guest.
 *
 * Nothing remembered is trusted here: whose a guest is, and what it does, is read anew for each command.
 */

import { totalmem } from 'node:os';
import { constants, type Domain } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { Clock } from '../contracts/clock.ts';
import type { GuestDefinition } from '../contracts/hypervisor.ts';
import { machineOfDomain } from './capabilities.ts';
import { readMetadata } from './definitions.ts';
import { bufferedPaths } from './direct-io.ts';
import { DiskCommands } from './disk-commands.ts';
import { domainXml } from './domain-xml.ts';
import { isDomainExists, isLibvirtError } from './errors.ts';
import { GuestGate } from './guest-gate.ts';
import type { Platform } from './host-platform.ts';
import { CallLimits } from './limits.ts';
import {
  checkOurs,
  type CommandContext,
  findDomain,
  foreign,
  illegal,
  isDown,
  ownDomain,
  powerOf,
} from './own-domain.ts';
import { powerOfState } from './power-mapping.ts';
import { ShareCommands } from './share-commands.ts';

/** The guest agent answers in milliseconds or not at all; half of the command's time at most is spent on it. */
const AGENT_TIMEOUT_MS = 5_000;

const BYTES_PER_KIB = 1024;

const STATE = constants.virDomainState;
const UNDEFINE = constants.virDomainUndefineFlagsValues;
/** All that libvirt keeps of a domain, and would otherwise refuse to let go. */
const UNDEFINE_FLAGS =
  UNDEFINE.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
  UNDEFINE.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
  UNDEFINE.VIR_DOMAIN_UNDEFINE_NVRAM |
  UNDEFINE.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;

export class GuestCommands {
  readonly #clock: Clock;
  /** QEMU may hang, or the guest's agent, independently of one another. */
  readonly #qemuGate = new GuestGate();
  readonly #agentGate = new GuestGate();
  readonly disks: DiskCommands;
  readonly shares: ShareCommands;
  readonly #readOnlyProgram: string;

  /** @param readOnlyProgram Absolute path of the program that serves read-only shares. */
  constructor(clock: Clock, readOnlyProgram: string) {
    this.#clock = clock;
    this.disks = new DiskCommands(clock, this.#qemuGate);
    this.shares = new ShareCommands(clock, this.#qemuGate, readOnlyProgram);
    this.#readOnlyProgram = readOnlyProgram;
  }

  async define(context: CommandContext, definition: GuestDefinition, platform: Platform): Promise<Domain> {
    const { connection, limits } = context;
    const domain = await findDomain(context, definition.id);
    if (domain !== null) await checkOurs(domain, limits);
    if (domain !== null && domain.name !== definition.name) await rename(context, domain, definition);
    const xml = domainXml(definition, {
      accelerator: platform.verdict.acceleration === 'kvm' ? 'kvm' : 'tcg',
      emulator: platform.emulator,
      machine: (domain === null ? null : await machineOf(domain, limits)) ?? platform.machine,
      // Opening a file takes as long as its disk does.
      bufferedPaths: await limits.wait(bufferedPaths(definition.disks), 'command'),
      readOnlyProgram: this.#readOnlyProgram,
    });
    try {
      return await connection.domainDefineXMLFlags(xml, 0, limits.next());
    } catch (error) {
      throw isDomainExists(error) ? await nameTaken(context, definition, error) : error;
    }
  }

  async start(context: CommandContext, id: string): Promise<void> {
    const domain = await ownDomain(context, id);
    try {
      await this.#startFrom(context, domain);
    } catch (error) {
      if (isLibvirtError(error, 'VIR_ERR_INTERNAL_ERROR')) await checkFits(context, domain, error);
      // Someone else was faster, or it ended by itself meanwhile: what counts is how it is now.
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
      if ((await powerOf(domain, context.limits)).power !== 'running') throw error;
    }
  }

  async requestShutdown(context: CommandContext, id: string): Promise<void> {
    const flags = constants.virDomainShutdownFlagValues;
    const domain = await this.#running(context, id);
    try {
      await this.#askGuest(context, domain, {
        byAgent: (limits) => domain.shutdownFlags(flags.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT, limits),
        byButton: (limits) => domain.shutdownFlags(flags.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, limits),
      });
    } catch (error) {
      // Its agent had heard it, and was too busy to say so: then it is down before its button is pressed.
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
      if (!(await isDown(domain, context.limits))) throw error;
    }
  }

  async requestReboot(context: CommandContext, id: string): Promise<void> {
    const flags = constants.virDomainRebootFlagValues;
    const domain = await this.#running(context, id);
    await this.#askGuest(context, domain, {
      byAgent: (limits) => domain.reboot(flags.VIR_DOMAIN_REBOOT_GUEST_AGENT, limits),
      byButton: (limits) => domain.reboot(flags.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN, limits),
    });
  }

  async reset(context: CommandContext, id: string): Promise<void> {
    const domain = await this.#running(context, id);
    await this.#qemuGate.run(id, context.limits, 'command', (limits) => domain.reset(0, limits));
  }

  async destroy(context: CommandContext, id: string): Promise<void> {
    const domain = await findDomain(context, id);
    if (domain === null) return;
    await checkOurs(domain, context.limits);
    try {
      await domain.destroyFlags(0, context.limits.next());
    } catch (error) {
      if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return;
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
      const { state } = await domain.getState(0, context.limits.next());
      if (state !== STATE.VIR_DOMAIN_SHUTOFF) throw error;
    }
  }

  async undefine(context: CommandContext, id: string): Promise<void> {
    const domain = await findDomain(context, id);
    if (domain === null) return;
    await checkOurs(domain, context.limits);
    // libvirt would undefine a running domain, and leave it running without a definition.
    const { state } = await domain.getState(0, context.limits.next());
    if (state !== STATE.VIR_DOMAIN_SHUTOFF) throw illegal(id, 'it is not stopped; destroy it first');
    try {
      await domain.undefineFlags(UNDEFINE_FLAGS, context.limits.next());
    } catch (error) {
      if (!isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) throw error;
    }
  }

  /** What the guest's agent says of its interfaces. */
  async interfaces({ connection, limits }: CommandContext, id: string) {
    const domain = await connection.domainLookupByUUIDString(id, limits.next());
    const source = constants.virDomainInterfaceAddressesSource.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT;
    try {
      return await this.#agentGate.run(id, limits, 'question', (rest) =>
        domain.interfaceAddresses(source, 0, rest),
      );
    } catch (error) {
      if (!isLibvirtError(error, 'VIR_ERR_OPERATION_INVALID')) throw error;
      throw new AgentError('UNAVAILABLE', `Guest ${id} does not run, so no agent answers`, { cause: error });
    }
  }

  async #startFrom({ connection, limits }: CommandContext, domain: Domain): Promise<void> {
    const { state, reason } = await domain.getState(0, limits.next());
    const { power, reason: words } = powerOfState(state, reason);
    const run = (call: (rest: { timeoutMs: number }) => Promise<unknown>) =>
      this.#qemuGate.run(domain.uuid, limits, 'command', call);
    if (power === 'running') return;
    if (state === STATE.VIR_DOMAIN_SHUTOFF) await run((rest) => domain.createWithFlags(0, rest));
    else if (state === STATE.VIR_DOMAIN_PMSUSPENDED) {
      await run((rest) =>
        connection.call('domainPmWakeup', { dom: domain, flags: 0 }, { role: 'long', ...rest }),
      );
    } else if (power === 'paused') await run((rest) => domain.resume(rest));
    else throw illegal(domain.uuid, `it is ${power}: ${words}`);
  }

  async #running(context: CommandContext, id: string): Promise<Domain> {
    const domain = await ownDomain(context, id);
    const { power, reason } = await powerOf(domain, context.limits);
    if (power !== 'running') throw illegal(id, `it is ${power}: ${reason}`);
    return domain;
  }

  /**
   * By the guest's agent where it answers, else by the ACPI power button. libvirt would do the same by itself, but
   * waits a minute for an agent that hangs.
   */
  async #askGuest(
    { limits }: CommandContext,
    domain: Domain,
    ways: Record<'byAgent' | 'byButton', (limits: { timeoutMs: number }) => Promise<void>>,
  ): Promise<void> {
    const { timeoutMs, signal } = limits.next();
    const forAgent = { timeoutMs: Math.min(AGENT_TIMEOUT_MS, timeoutMs / 2), ...(signal && { signal }) };
    const agentLimits = new CallLimits(this.#clock, forAgent, AGENT_TIMEOUT_MS);
    try {
      return await this.#agentGate.run(domain.uuid, agentLimits, 'command', ways.byAgent);
    } catch (error) {
      if (error instanceof AgentError && error.code === 'CANCELLED') throw error;
      // No agent, or one that does not answer: its own error says nothing about the guest.
    }
    await this.#qemuGate.run(domain.uuid, limits, 'command', ways.byButton);
  }
}

/**
 * Gives a domain the name of its definition. libvirt finds a domain's NVRAM by its name, so one that gets its own name
 * back has its NVRAM again.
 *
 * @throws {AgentError} ILLEGAL_STATE: it runs, and libvirt renames only what does not. ALREADY_EXISTS, HOST_CONFLICT:
 *   another domain has the name.
 */
async function rename(context: CommandContext, domain: Domain, definition: GuestDefinition): Promise<void> {
  const { power, reason } = await powerOf(domain, context.limits);
  if (power !== 'stopped' && power !== 'crashed') {
    const what = `it was renamed to ${domain.name}, and is ${power} (${reason}); stop it first`;
    throw illegal(definition.id, what);
  }
  try {
    await domain.rename(definition.name, 0, context.limits.next());
  } catch (error) {
    throw isDomainExists(error) ? await nameTaken(context, definition, error) : error;
  }
}

async function machineOf(domain: Domain, limits: CallLimits): Promise<string | null> {
  const flags = constants.virDomainXMLFlags.VIR_DOMAIN_XML_INACTIVE;
  return machineOfDomain(await domain.getXMLDesc(flags, limits.next()));
}

/** Whose the name is that stood in the way. */
async function nameTaken(
  { connection, limits }: CommandContext,
  { id, name }: GuestDefinition,
  cause: unknown,
): Promise<AgentError> {
  const what = `Cannot define guest ${id}: another one is named ${name}`;
  const taken = new AgentError('ALREADY_EXISTS', what, { cause });
  try {
    const other = await connection.domainLookupByName(name, limits.next());
    return (await readMetadata(other, limits.next())) === null ? foreign(what, cause) : taken;
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_DOMAIN')) return taken; // gone meanwhile: the next attempt succeeds
    throw error;
  }
}

/**
 * A start has failed: was it for want of memory? libvirt does not always wait for QEMU's own words, so a guest larger
 * than the host is told by its size.
 *
 * @throws {AgentError} CAPACITY_EXCEEDED
 */
async function checkFits({ limits }: CommandContext, domain: Domain, cause: unknown): Promise<void> {
  const { maxMem } = await domain.getInfo(limits.next());
  if (Number(maxMem) * BYTES_PER_KIB <= totalmem()) return;
  throw new AgentError('CAPACITY_EXCEEDED', `Guest ${domain.uuid} is larger than this host's memory`, {
    cause,
  });
}
