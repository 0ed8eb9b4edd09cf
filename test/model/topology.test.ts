import t from 'tap';
import { cpuListOf, cpusOf } from '../../src/model/cpu-list.ts';
import { deviceKindOf, HostDevice, hostDevice, hugepageMib } from '../../src/model/topology.ts';
import { findFault } from '../../src/model/validate.ts';

t.test('a list of CPUs is read as the kernel writes it, and written alike', async (t) => {
  for (const [list, cpus] of [
    ['', []],
    ['0', [0]],
    ['0-3,8,10-11', [0, 1, 2, 3, 8, 10, 11]],
  ] as const) {
    t.same(cpusOf(`${list}\n`), cpus);
    t.equal(cpuListOf(cpus), list);
  }
  t.same(cpusOf('3,1-2,2'), [1, 2, 3], 'in rising order, each once');
});

t.test('what is no list of CPUs is none, however long it would be', async (t) => {
  for (const list of ['x', '1-', '-1', '3-1', '0,,1', '0-99999999', '1.5', '0x1', ' 1 2'])
    t.equal(cpusOf(list), null, list);
});

t.test('devices are told by what they are, and bridges and disks controllers not at all', async (t) => {
  t.equal(deviceKindOf(0x020000), 'nic');
  t.equal(deviceKindOf(0x030200), 'gpu');
  t.equal(deviceKindOf(0x010802), 'nvme');
  t.equal(deviceKindOf(0x120000), 'accelerator');
  for (const code of [0x060000, 0x010601, 0xffff00, 0]) t.equal(deviceKindOf(code), null);
});

t.test(
  'a device has the custom resource class that nova gives it, and a name of bounded length',
  async (t) => {
    const device = hostDevice({
      address: '0000:3b:00.0',
      kind: 'nic',
      vendorId: '8086',
      productId: '158b',
      vendor: 'x'.repeat(10_000),
      product: '',
      numaNode: 1,
      driver: null,
      iommuGroup: null,
      virtualFunctions: null,
    });
    t.match(device, { resourceClass: 'CUSTOM_PCI_8086_158B', product: '158b' });
    t.equal(findFault(HostDevice, device), null);
  },
);

t.test('what huge pages take is told in MiB, over all nodes and sizes', async (t) => {
  const node = { id: 0, cpus: '0', memoryMib: 8192, distances: [] };
  const small = { sizeKib: 2048, total: 3, free: 0 };
  const large = { sizeKib: 1_048_576, total: 2, free: 2 };
  t.equal(hugepageMib([]), 0);
  t.equal(
    hugepageMib([
      { ...node, hugepages: [small, large] },
      { ...node, hugepages: [small] },
    ]),
    2060,
  );
});
