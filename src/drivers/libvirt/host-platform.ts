/**
 * What this host can give to guests: emulator, machine type, firmware, acceleration.
 *
 * Read once for each connection, since an upgrade of QEMU or libvirt may change it; the acceleration is proved once,
 * and again when the device or libvirt's offer has come or gone.
 */
import { access } from 'node:fs/promises';
import type { Connection } from 'node-libvirt';
import type { NumaNode } from '../../model/topology.ts';
import type { HypervisorFacts } from '../contracts/hypervisor.ts';
import type { Exec } from '../host/exec.ts';
import { type AccelerationVerdict, probeAcceleration } from './acceleration.ts';
import { type EmulatorFacts, emulatorFacts, numaNodes, offersUefi } from './capabilities.ts';
import { READ_ONLY_PROGRAM_PATH } from './share-xml.ts';
import { probeShares } from './virtiofsd.ts';

export interface HostPlatformOptions {
  exec: Exec;
  /** @default '/dev/kvm' */
  kvmDevicePath?: string | undefined;
  /** The program that serves read-only shares, absolute path. @default READ_ONLY_PROGRAM_PATH */
  readOnlyProgram?: string | undefined;
}

/** What is known for one connection. */
export interface Platform extends EmulatorFacts {
  numaNodes: NumaNode[];
  verdict: AccelerationVerdict;
}

/** libvirt starts each emulator once to ask what it can do, which may take seconds on a cold host. Milliseconds. */
const CAPABILITIES_TIMEOUT_MS = 30_000;
const KIB_PER_MIB = 1024;

/**
 * What every guest of ours can have on every host. What the host could and our guests can't have, as a TPM, is not among it.
 *
 * @see os-traits: compute/arch, firmware, graphics, net, storage, volume
 */
const TRAITS = [
  'COMPUTE_ARCH_X86_64',
  'COMPUTE_FIRMWARE_BIOS',
  'COMPUTE_GRAPHICS_MODEL_VGA',
  'COMPUTE_NET_VIF_MODEL_VIRTIO',
  'COMPUTE_NODE',
  'COMPUTE_STORAGE_BUS_SCSI',
  'COMPUTE_STORAGE_BUS_VIRTIO',
  'COMPUTE_VOLUME_ATTACH',
  'COMPUTE_VOLUME_EXTEND',
];
const TRAIT_VIRTIOFS = 'COMPUTE_STORAGE_VIRTIO_FS';
const TRAIT_UEFI = 'COMPUTE_FIRMWARE_UEFI';
/** os-traits has none for it. */
const TRAIT_KVM = 'CUSTOM_BERTH_KVM';

export class HostPlatform {
  readonly #exec: Exec;
  readonly #devicePath: string;
  readonly #readOnlyProgram: string;
  #platform: Promise<Platform> | null = null;
  #verdict: { key: string; promise: Promise<AccelerationVerdict> } | null = null;

  constructor(options: HostPlatformOptions) {
    this.#exec = options.exec;
    this.#devicePath = options.kvmDevicePath ?? '/dev/kvm';
    this.#readOnlyProgram = options.readOnlyProgram ?? READ_ONLY_PROGRAM_PATH;
  }

  /** To be called when the connection is lost. */
  forget(): void {
    this.#platform = null;
  }

  /** Shared by all who ask at once, so it has limits of its own; callers wait for it within theirs. */
  platform(connection: Connection): Promise<Platform> {
    if (this.#platform !== null) return this.#platform;
    const reading = this.#read(connection);
    this.#platform = reading;
    reading.catch(() => {
      if (this.#platform === reading) this.#platform = null;
    });
    return reading;
  }

  /** All facts, read anew. */
  async facts(connection: Connection): Promise<HypervisorFacts> {
    this.forget();
    const limits = { timeoutMs: CAPABILITIES_TIMEOUT_MS };
    const platform = await this.platform(connection);
    const [libvirt, qemu, node, capabilities] = await Promise.all([
      connection.getLibVersion(limits),
      connection.getVersion(limits),
      connection.nodeGetInfo(limits),
      this.#capabilities(connection, platform),
    ]);
    const shares = await probeShares({ capabilities, readOnlyProgram: this.#readOnlyProgram });
    const offers = { uefi: offersUefi(capabilities), virtiofs: shares.usable };
    return {
      libvirtVersion: versionText(libvirt),
      qemuVersion: versionText(qemu),
      acceleration: platform.verdict.acceleration,
      accelerationReason: platform.verdict.reason,
      memoryMib: Math.floor(Number(node.memory) / KIB_PER_MIB),
      cpus: node.cpus,
      traits: traitsOf(platform, offers),
      shares,
      numaNodes: platform.numaNodes,
    };
  }

  async #read(connection: Connection): Promise<Platform> {
    const text = await connection.getCapabilities({ timeoutMs: CAPABILITIES_TIMEOUT_MS });
    const facts = emulatorFacts(text);
    return { ...facts, numaNodes: numaNodes(text), verdict: await this.#accelerationOf(facts) };
  }

  async #accelerationOf({ emulator, isKvmListed }: EmulatorFacts): Promise<AccelerationVerdict> {
    const key = JSON.stringify([emulator, isKvmListed, await isThere(this.#devicePath)]);
    if (this.#verdict?.key === key) return this.#verdict.promise;
    const probe = { exec: this.#exec, emulator, isListed: isKvmListed, devicePath: this.#devicePath };
    const verdict = { key, promise: probeAcceleration(probe) };
    this.#verdict = verdict;
    verdict.promise.catch(() => {
      if (this.#verdict === verdict) this.#verdict = null;
    });
    return verdict.promise;
  }

  #capabilities(connection: Connection, { emulator, machine, verdict }: Platform): Promise<string> {
    const virtType = verdict.acceleration === 'kvm' ? 'kvm' : 'qemu';
    const limits = { timeoutMs: CAPABILITIES_TIMEOUT_MS };
    return connection.getDomainCapabilities(emulator, null, machine, virtType, 0, limits);
  }
}

/** @param version 1,000,000 × major + 1,000 × minor + release. @see virConnectGetLibVersion, libvirt-host.h */
export function versionText(version: number): string {
  return [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000, version % 1000].join('.');
}

function traitsOf({ verdict }: Platform, offers: { uefi: boolean; virtiofs: boolean }): string[] {
  return [
    ...TRAITS,
    ...(offers.uefi ? [TRAIT_UEFI] : []),
    ...(offers.virtiofs ? [TRAIT_VIRTIOFS] : []),
    ...(verdict.acceleration === 'kvm' ? [TRAIT_KVM] : []),
  ].toSorted();
}

/** Only a part of a key: what cannot be looked at is as good as another answer. */
async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
