/** Well-formed examples of what goes over the wire. */
import { randomUUID } from 'node:crypto';
import type { Instance, InstanceSpec } from '../../../src/model/instance.ts';
import type { Inventory, NodeStatus, ResourceAmounts, ResourceClass } from '../../../src/model/node.ts';
import type { Operation } from '../../../src/model/operation.ts';
import { DEFAULT_POLICIES } from '../../../src/model/policy.ts';

const AT = '2026-01-01T00:00:00.000Z';

export function aSpec(change: Partial<InstanceSpec> = {}): InstanceSpec {
  return {
    name: 'web-1',
    vcpus: 2,
    memoryMib: 1024,
    firmware: 'bios',
    disks: [{ image: 'debian', sizeGib: 10 }],
    nics: [],
    sshAuthorizedKeys: [],
    watchdog: 'none',
    policies: DEFAULT_POLICIES,
    ...change,
  };
}

export function anInstance(id: string, spec: InstanceSpec): Instance {
  return {
    id,
    name: spec.name,
    generation: 1,
    generationId: id,
    lifecycle: 'building',
    power: { state: 'stopped', since: AT, reason: 'not started yet' },
    desired: 'running',
    restarts: null,
    disowned: null,
    spec,
    userDataBytes: 0,
    vendorDataBytes: 0,
    disks: [],
    shares: [],
    nics: [],
    guest: null,
    drift: [],
    restores: null,
    createdAt: AT,
  };
}

export function anOperation(kind: string, target: { id: string; name: string }): Operation {
  return {
    id: randomUUID(),
    kind,
    target: { kind: 'instance', id: target.id, name: target.name },
    askedBy: 'scheduler',
    state: 'pending',
    progress: { step: null, percent: 0, phase: null, bytes: null },
    steps: [],
    error: null,
    retry: null,
    parentId: null,
    children: { total: 0, ended: 0 },
    cancelRequestedAt: null,
    createdAt: AT,
    startedAt: null,
    endedAt: null,
  };
}

export function anInventory(of: {
  nodeId: string;
  hostname: string;
  generation: number;
  total: ResourceAmounts;
  used: ResourceAmounts;
}): Inventory {
  const resource = (name: ResourceClass) => ({
    total: of.total[name],
    reserved: 0,
    allocationRatio: 1,
    used: of.used[name],
    available: Math.max(0, of.total[name] - of.used[name]),
  });
  return {
    nodeId: of.nodeId,
    hostname: of.hostname,
    generation: of.generation,
    resources: { VCPU: resource('VCPU'), MEMORY_MB: resource('MEMORY_MB'), DISK_GB: resource('DISK_GB') },
    traits: [],
    acceleration: 'absent',
    discrepancies: [],
    pool: { name: 'default', fileSystem: 'ext4', shared: false, room: 'ok' },
    pools: [],
    host: {
      architecture: 'x86_64',
      cpuModel: 'test',
      operatingSystem: 'Debian 12',
      kernel: '6.1',
      libvirtVersion: '9.0.0',
      qemuVersion: '7.2.22',
    },
  };
}

export function aNodeStatus(nodeId: string, hostname: string): NodeStatus {
  const ok = { state: 'ok' as const, since: AT, reason: 'it answers' };
  return {
    nodeId,
    hostname,
    version: '0.1.0',
    startedAt: AT,
    hypervisor: ok,
    storage: ok,
    database: { state: 'ok', since: '2026-01-01T00:00:00.000Z', reason: 'whole' },
    scheduler: ok,
    policies: ok,
    instances: {},
    foreignDomains: 0,
    operations: { running: 0, pending: 0 },
    unacknowledgedEvents: 0,
    problems: [],
    problemsLeftOut: 0,
  };
}
