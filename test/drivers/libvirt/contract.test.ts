/**
 * The libvirt driver keeps the contract of Hypervisor, on the libvirtd of this machine.
 */
import { randomUUID } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constants } from 'node-libvirt';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { GuestDefinition } from '../../../src/drivers/contracts/hypervisor.ts';
import { type DefinitionBench, definitionContract, type Place } from '../contract/definitions.ts';
import type { FileBench, HypervisorBench } from '../contract/hypervisor-bench.ts';
import { hypervisorContract } from '../contract/hypervisor.ts';
import { bitmapsIn, bytesInDelta } from './deltas.ts';
import { isThere, Lab, look, PATIENCE_MS, TEST_IMAGE, takeTime, whyNotHere } from './lab.ts';
import { fireWatchdog, panic } from './machine-ports.ts';
import { SocketProxy } from './socket-proxy.ts';

/** More memory than any host of these tests has, and less than a virtual CPU can address (1 TiB). */
const OVERSIZED_MIB = 900 * 1024;

takeTime(t);
const reason = await whyNotHere();
if (reason !== false) {
  t.test('the libvirt driver keeps the contract of Hypervisor', { skip: reason }, async () => undefined);
} else {
  const hasImage = await isThere(TEST_IMAGE);
  const overcommitsAlways = (await readFile('/proc/sys/vm/overcommit_memory', 'utf8')).trim() === '1';
  hypervisorContract(t, 'the libvirt driver', (t) => makeBench(t, { hasImage, overcommitsAlways }));
  // Nothing in it waits for a guest to boot.
  definitionContract(t, 'the libvirt driver', (t) => makeBench(t, { hasImage: false, overcommitsAlways }));
}

const { VIR_DOMAIN_AFFECT_CONFIG, VIR_DOMAIN_AFFECT_LIVE } = constants.virDomainModificationImpact;
const PLACES: Record<Place, number> = {
  definition: VIR_DOMAIN_AFFECT_CONFIG,
  live: VIR_DOMAIN_AFFECT_LIVE,
  both: VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_AFFECT_LIVE,
};

interface Machine {
  hasImage: boolean;
  overcommitsAlways: boolean;
}

async function makeBench(t: Test, { hasImage, overcommitsAlways }: Machine): Promise<DefinitionBench> {
  const lab = await Lab.open(t);
  const proxy = new SocketProxy(join(lab.folder, 'proxy.sock'), lab.socketPath);
  await proxy.open();
  t.teardown(() => proxy.cut());
  const hypervisor = lab.driver(t, proxy.path);
  await hypervisor.observe();
  const ready: GuestDefinition[] = [];
  for (let count = 0; count < 2; count++) {
    ready.push(hasImage ? await lab.bootingGuest() : await lab.emptyGuest());
  }
  const oversized = await lab.emptyGuest({ memoryMib: OVERSIZED_MIB });
  const domain = (id: string) => lab.admin.domainLookupByUUIDString(id);
  return {
    hypervisor,
    reopen: async () => lab.driver(t),
    definition: () => {
      const definition = ready.shift();
      if (definition === undefined)
        throw new Error('a test of the contract needs more guests than were made');
      return definition;
    },
    ...filesOf(lab),
    exists: isThere,
    tracking: trackingOf(lab),
    sizeOf: async ({ path }) => (await stat(path)).size,
    makeForeign: () => lab.foreignGuest(),
    outside: {
      pause: async (id) => (await domain(id)).suspend(),
      stop: async (id) => (await domain(id)).destroyFlags(),
      undefine: async (id) => (await domain(id)).undefineFlags(),
    },
    others: {
      rename: async (id, name) => (await domain(id)).rename(name),
      setVcpus: (id, vcpus) =>
        lab.editDefinition(id, /<vcpu[^>]*>\d+</, `<vcpu placement='static'>${vcpus}<`),
      changeOtherwise: (id) => lab.editDefinition(id, '<on_crash>destroy<', '<on_crash>restart<'),
      attachDisk: async (id, to) => {
        const path = await lab.emptyDisk();
        await (await domain(id)).attachDeviceFlags(diskXml(path), PLACES[to]);
        return path;
      },
      detachDisk: async (id, path) => (await domain(id)).detachDeviceFlags(diskXml(path), PLACES.definition),
      balloon: async (id) => (await domain(id)).setMemoryFlags(32 * 1024, PLACES.live),
      start: async (id) => void (await (await domain(id)).createWithFlags()),
    },
    hasBooted: hasImage ? (id) => answersPing(lab, id) : { unable: `${TEST_IMAGE} has not been built` },
    freeze: async (id) => {
      const pid = await lab.qemuPid(id);
      process.kill(pid, 'SIGSTOP');
      return async () => void process.kill(pid, 'SIGCONT');
    },
    panic: (id) => panic(lab, id),
    fireWatchdog: (id) => fireWatchdog(lab, id),
    cutOff: async () => {
      await proxy.cut();
      return () => proxy.open();
    },
    oversized: overcommitsAlways ? { unable: 'this host promises any amount of memory' } : () => oversized,
    clock: systemClock,
    pass: look,
    patienceMs: PATIENCE_MS,
  };
}

/** What the tests make disks and folders of. */
function filesOf(lab: Lab): FileBench & Pick<HypervisorBench, 'spareDisk'> {
  return {
    spareDisk: async () => ({
      serial: randomUUID().slice(0, 8),
      path: await lab.emptyDisk(),
      format: 'raw',
      readOnly: false,
      backing: null,
    }),
    overlayOn: (disk) => lab.overlayOn(disk),
    memoryPath: () => lab.newPath('memory'),
    nvramPath: () => lab.newPath('nvram'),
    variablesIn: (path) => readFile(path, 'latin1'),
    // As large as it was: QEMU maps it whole.
    changeVariables: async (path) => writeFile(path, (await readFile(path)).fill(0x53, 0, 4096)),
    spareFolder: () => lab.emptyFolder(),
    layeredDisk: async () => ({ serial: randomUUID().slice(0, 8), ...(await lab.layeredDisk()) }),
    isFlat: async ({ path }) => (await lab.backingOf(path)) === null,
  };
}

function trackingOf(lab: Lab): DefinitionBench['tracking'] {
  return {
    disk: () => lab.trackedDisk(),
    scribble: (id, { serial }) => lab.scribble(id, serial),
    use: (id, { serial }) => lab.use(id, serial),
    bytesIn: bytesInDelta,
    bitmapsIn,
    prepare: (path) => lab.makeEmpty(path),
    kill: (id) => lab.kill(id),
  };
}

function diskXml(path: string): string {
  return `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${path}'/><target dev='vdz' bus='virtio'/></disk>`;
}

/** The guest's agent starts when the guest has booted, and is gone after a reset until it has booted again. */
async function answersPing(lab: Lab, id: string): Promise<boolean> {
  const domain = await lab.admin.domainLookupByUUIDString(id);
  return domain.qemuAgentCommand('{"execute":"guest-ping"}', 2).then(
    () => true,
    () => false,
  );
}
