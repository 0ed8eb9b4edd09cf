/** Devices and NUMA nodes from libvirt's XML, and those of this machine beside its kernel's own files. */
import { readdir, readFile } from 'node:fs/promises';
import t from 'tap';
import { numaNodes } from '../../../src/drivers/libvirt/capabilities.ts';
import { pciDevice } from '../../../src/drivers/libvirt/node-devices.ts';
import { readResources } from '../../../src/drivers/host/resources.ts';
import { deviceKindOf, HostDevice } from '../../../src/model/topology.ts';
import { findFault } from '../../../src/model/validate.ts';
import { Lab, whyNotHere } from './lab.ts';

const PCI_FOLDER = '/sys/bus/pci/devices';

function pci(inner: string, { classCode = '0x020000', driver = '<driver><name>i40e</name></driver>' } = {}) {
  return `<device><name>pci_0000_3b_00_1</name><parent>computer</parent>${driver}<capability type='pci'>
    <class>${classCode}</class><domain>0</domain><bus>59</bus><slot>0</slot><function>1</function>
    <product id='0x158b'>Ethernet Controller XXV710 &amp; more</product>
    <vendor id='0x8086'>Intel Corporation</vendor>${inner}</capability></device>`;
}

const FUNCTIONS = `<capability type='virt_functions' maxCount='64'>
  <address domain='0x0000' bus='0x3b' slot='0x02' function='0x0'/>
  <address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/></capability>`;

t.test('a NIC is told with its functions, its NUMA node, its IOMMU group and its driver', async (t) => {
  const device = pciDevice(pci(`${FUNCTIONS}<iommuGroup number='41'/><numa node='1'/>`));
  t.same(device, {
    address: '0000:3b:00.1',
    kind: 'nic',
    resourceClass: 'CUSTOM_PCI_8086_158B',
    vendor: 'Intel Corporation',
    product: 'Ethernet Controller XXV710 & more',
    numaNode: 1,
    driver: 'i40e',
    iommuGroup: 41,
    virtualFunctions: { most: 64, enabled: 2 },
  });
  t.equal(findFault(HostDevice, device), null);
});

t.test('what the host does not say is null, and a node of -1 is not said', async (t) => {
  const device = pciDevice(pci("<numa node='-1'/>", { driver: '', classCode: '0x030000' }));
  t.match(device, { kind: 'gpu', numaNode: null, driver: null, iommuGroup: null, virtualFunctions: null });
});

t.test('virtual functions and what guests are not given are left out', async (t) => {
  const of = `<capability type='phys_function'><address domain='0' bus='0x3b' slot='0' function='0'/></capability>`;
  t.equal(pciDevice(pci(of)), null);
  t.equal(pciDevice(pci('', { classCode: '0x060000' })), null);
  t.equal(pciDevice('<device><name>computer</name></device>'), null);
  t.equal(pciDevice('<device><capability type="pci"><class>0x020000</class></capability></device>'), null);
});

t.test('cells become NUMA nodes, with huge pages and distances', async (t) => {
  const cell = (
    id: number,
    cpus: string,
    huge: number,
  ) => `<cell id='${id}'><memory unit='KiB'>8388608</memory>
    <pages unit='KiB' size='4'>1048576</pages><pages unit='KiB' size='2048'>${huge}</pages>
    <distances><sibling id='0' value='${id === 0 ? 10 : 21}'/><sibling id='1' value='${id === 1 ? 10 : 21}'/></distances>
    <cpus num='2'>${cpus}</cpus></cell>`;
  const text = `<capabilities><host><topology><cells num='2'>
    ${cell(0, "<cpu id='0'/><cpu id='2'/>", 0)}${cell(1, "<cpu id='1'/><cpu id='3'/>", 8)}
    </cells></topology></host></capabilities>`;
  t.match(numaNodes(text), [
    {
      id: 0,
      cpus: '0,2',
      memoryMib: 8192,
      hugepages: [],
      distances: [
        { node: 0, distance: 10 },
        { node: 1, distance: 21 },
      ],
    },
    { id: 1, cpus: '1,3', hugepages: [{ sizeKib: 2048, total: 8 }] },
  ]);
  t.same(numaNodes('<capabilities><host/></capabilities>'), []);
  t.throws(() => numaNodes(text.replace("id='3'", "id='x'")), { code: 'INTERNAL' });
});

t.test('on this machine libvirt and the kernel agree', { skip: await whyNotHere() }, async (t) => {
  const lab = await Lab.open(t);
  const hypervisor = lab.driver(t);
  const names = await readdir(PCI_FOLDER);
  const codes = await Promise.all(names.map(async (name) => readFile(`${PCI_FOLDER}/${name}/class`, 'utf8')));
  const shown = names.filter((_, i) => deviceKindOf(Number(codes[i]?.trim())) !== null);
  const devices = await hypervisor.devices();
  t.same(
    devices.map(({ address }) => address),
    shown.toSorted(),
  );
  for (const device of devices) t.equal(findFault(HostDevice, device), null);
  const { numaNodes: seen = [] } = await hypervisor.facts();
  const kernels = readResources('').numaNodes;
  const layout = (nodes: typeof kernels) => nodes.map(({ id, cpus, distances }) => ({ id, cpus, distances }));
  t.same(layout(seen), layout(kernels));
});
