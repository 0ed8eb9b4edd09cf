/** Hosts for the tests of plans: what they tell of guests, volumes, images and networks, by number. */
import type { GuestMetadata } from '../../../src/agent/instances/metadata.ts';
import type { HostGuest, HostView } from '../../../src/agent/recover/host-view.ts';
import { planRecovery } from '../../../src/agent/recover/plan.ts';
import type { Known, PlanContext, RecoveryPlan } from '../../../src/agent/recover/planning.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';
import type { FoundImage, FoundShare, FoundVolume } from '../../../src/drivers/contracts/storage.ts';

export const AT = '2026-01-02T03:04:05.678Z';
export const GIB = 1024 ** 3;

/** Ids that differ in their first digits, by kind and number. */
export function id(kind: 'guest' | 'volume' | 'share' | 'image' | 'network' | 'port', n: number): string {
  const digit = { guest: 'a', volume: 'b', image: 'c', network: 'd', port: 'e', share: 'f' }[kind];
  return `${digit}${n.toString(16).padStart(7, '0')}-0000-4000-8000-000000000000`;
}

export const CONTEXT: PlanContext = {
  pool: 'default',
  now: AT,
  names: {},
  generations: {},
  bridgeName: (network) => `bb-${network.slice(0, 8)}`,
  tapName: (port) => `bt-${port.slice(0, 8)}`,
  volumePath: (volume) => `/pool/${volume}`,
  layerPath: (volume, layer) => `/pool/${volume}.${layer}`,
  seedPath: (instance) => `/pool/seed-${instance}`,
};
export const NOTHING: Known = {
  images: [],
  networks: [],
  volumes: [],
  shares: [],
  instances: [],
  ports: [],
  busy: new Set(),
};

export function networkPlan(n: number) {
  return {
    id: id('network', n),
    name: `net-${n}`,
    bridge: CONTEXT.bridgeName(id('network', n)),
    cidr: `10.80.${n}.0/24`,
    gatewayAddress: `10.80.${n}.1`,
    nat: true,
    dhcp: true,
    dnsServers: [],
  };
}

export function foundShare(n: number, change: Partial<FoundShare> = {}): FoundShare {
  const label = { name: `share-${n % 2}`, createdAt: CONTEXT.now, quotaGib: n, protected: n === 1 };
  return { id: id('share', n), label, fault: null, ...change };
}

export function carriedShare(n: number, change: { tag?: string } = {}) {
  return { id: id('share', n), name: `share-${n}`, tag: `tag-${n}`, access: 'read-only' as const, ...change };
}

export function port(n: number, network = 0, address = n + 2) {
  return {
    network: networkPlan(network),
    port: {
      id: id('port', n),
      macAddress: `52:54:00:00:00:${n.toString(16).padStart(2, '0')}`,
      ipAddress: `10.80.${network}.${address}`,
      hostname: 'guest',
    },
  };
}

export function carriedVolume(n: number, change: Partial<GuestMetadata['volumes'][number]> = {}) {
  return {
    id: id('volume', n),
    name: `disk-${n}`,
    sizeGib: 4,
    image: { id: id('image', 0), format: 'qcow2' as const },
    deletedWithInstance: true,
    createdAt: AT,
    ...change,
  };
}

export function guest(
  n: number,
  change: Partial<GuestMetadata> = {},
  more: Partial<HostGuest> = {},
): HostGuest {
  return {
    id: id('guest', n),
    name: `berth-vm-${n}`,
    power: { state: 'running', reason: 'booted' },
    fault: null,
    generationId: null,
    metadata: {
      id: id('guest', n),
      nodeId: null,
      generation: 3,
      seq: 9,
      spec: {
        name: `vm-${n}`,
        vcpus: 1,
        memoryMib: 256,
        firmware: 'bios',
        disks: [{ image: 'debian' }],
        nics: [],
        sshAuthorizedKeys: [],
        watchdog: 'none',
        policies: DEFAULT_POLICIES,
      },
      createdAt: AT,
      volumes: [carriedVolume(n)],
      ports: [port(n)],
      ...change,
    },
    ...more,
  };
}

export function foundVolume(n: number, change: Partial<FoundVolume> = {}): FoundVolume {
  const image = { id: id('image', 0), format: 'qcow2' as const };
  return { id: id('volume', n), sizeBytes: 4 * GIB, image, label: null, layers: [], fault: null, ...change };
}

export function foundImage(n: number, change: Partial<FoundImage> = {}): FoundImage {
  const digest = '0'.repeat(64);
  const sizes = { sizeBytes: 1000, virtualSizeBytes: GIB };
  const facts = { sha256: digest, fileSha256: digest, ...sizes, hardware: null };
  return {
    id: id('image', n),
    format: 'qcow2',
    sourceFormat: 'qcow2',
    facts,
    name: `image-${n}`,
    madeAt: AT,
    fault: null,
    ...change,
  };
}

/** A host whose guests have the disks that they carry. */
export function host(guests: HostGuest[], change: Partial<HostView> = {}): HostView {
  return {
    guests,
    uses: guests.map(({ id, name, metadata }) => ({
      id,
      name,
      files: [
        CONTEXT.seedPath(id),
        ...(metadata?.volumes.map((volume) => CONTEXT.volumePath(volume.id)) ?? []),
      ],
    })),
    pool: {
      shares: [],
      images: [foundImage(0)],
      volumes: guests.flatMap(({ metadata }) =>
        (metadata?.volumes ?? []).map((volume) => foundVolume(Number.parseInt(volume.id.slice(1, 8), 16))),
      ),
    },
    networks: [
      { networkId: id('network', 0), bridge: networkPlan(0).bridge, present: true, plan: networkPlan(0) },
    ],
    ...change,
  };
}

export function plan(
  view: HostView,
  known: Partial<Known> = {},
  context: Partial<PlanContext> = {},
): RecoveryPlan {
  return planRecovery(view, { ...NOTHING, ...known }, { ...CONTEXT, ...context });
}

export function reasonsOf({ leftOut }: RecoveryPlan): Record<string, string> {
  return Object.fromEntries(leftOut.map(({ id, reason }) => [id, reason]));
}
