/** The methods of Connection that are about the host, and its CPUs and memory. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Connection } from '../../src/connection.ts';
import { constants, LibvirtError, LibvirtUnsupportedError } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { CONNECTION_SHARES } from './shares.ts';
import { layOver } from './stand-ins.ts';

const { VIR_CPU_COMPARE_IDENTICAL: identical, VIR_CPU_COMPARE_SUPERSET: superset } =
  constants.virCPUCompareResult;
const { VIR_NODE_SUSPEND_TARGET_MEM: toMemory } = constants.virNodeSuspendTarget;
const { VIR_NODE_CPU_STATS_ALL_CPUS: allCpus } = constants.virNodeGetCPUStatsAllCPUs;
const { VIR_NODE_MEMORY_STATS_ALL_CELLS: allCells } = constants.virNodeGetMemoryStatsAllCells;
const { VIR_NODE_ALLOC_PAGES_ADD: add } = constants.virNodeAllocPagesFlags;

const called = record(Connection, CONNECTION_SHARES, 'host');
const { skip, daemon, connectionTo } = await daemonForFile(t);
const system = () => connectionTo('qemu:///system');
const testDriver = () => connectionTo('test:///default');

const GUEST_XML = `<domain type='qemu'><name>nac</name><memory unit='MiB'>32</memory>
  <os><type arch='x86_64'>hvm</type></os></domain>`;
const QEMU64 = "<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>";

t.test('a connection tells where it leads', { skip }, async (t) => {
  const connection = await testDriver();
  t.equal(await connection.getHostname(), hostname());
  t.equal(await connection.getType(), 'TEST');
  t.equal(await connection.getURI(), 'test:///default');
  t.equal(await connection.getVersion(), 2);
  t.ok((await connection.getLibVersion()) >= 9_000_000);
  t.equal(await connection.isSecure(), true);
  t.equal(await connection.getMaxVcpus(), 32);
  t.match(await connection.getSysinfo(), "<entry name='vendor'>LENOVO</entry>");
  t.strictSame(await connection.nodeGetSecurityModel(), { model: 'testSecurity', doi: '' });
});

t.test('what host and hypervisor can do is told as XML', { skip }, async (t) => {
  const connection = await system();
  t.match(await connection.getCapabilities(), "<domain type='qemu'");
  t.match(await connection.getDomainCapabilities(null, 'x86_64', 'pc', 'qemu'), '<arch>x86_64</arch>');
  t.ok((await connection.getCPUModelNames('x86_64')).includes('qemu64'));
});

t.test('CPUs are compared, and reduced to what all have', { skip }, async (t) => {
  const connection = await system();
  const [cpu = ''] = /<cpu>[\s\S]*?<\/cpu>/.exec(await connection.getCapabilities()) ?? [];
  t.equal(await connection.compareCPU(cpu), identical);
  t.equal(await connection.compareHypervisorCPU(null, null, null, 'qemu', QEMU64), superset);
  t.match(await connection.baselineCPU([cpu, cpu]), "<cpu mode='custom' match='exact'>");
  t.match(await connection.baselineHypervisorCPU(null, null, null, 'qemu', [QEMU64]), 'qemu64</model>');
});

t.test('a definition becomes a command line of QEMU, and never the other way', { skip }, async (t) => {
  const connection = await system();
  t.match(await connection.domainXMLToNative('qemu-argv', GUEST_XML), '-name guest=nac');
  const failure = await failureOf(connection.domainXMLFromNative('qemu-argv', 'qemu-system-x86_64'));
  t.ok(failure instanceof LibvirtUnsupportedError);
});

t.test('CPUs and memory of the host are told, 64 bits as bigint', { skip }, async (t) => {
  const connection = await testDriver();
  t.strictSame(await connection.nodeGetInfo(), {
    model: 'i686',
    memory: 3_145_728n,
    cpus: 16,
    mhz: 1_400,
    nodes: 2,
    sockets: 2,
    cores: 2,
    threads: 2,
  });
  t.strictSame(await connection.nodeGetCPUMap(), { cpumap: Buffer.of(0b10101), online: 3, ret: 8 });
  t.strictSame(await connection.nodeGetCellsFreeMemory(0, 2), [2_097_152n, 4_194_304n]);
  t.equal(await connection.nodeGetFreeMemory(), 3_145_728n);
});

t.test('figures of the host come by name', { skip }, async (t) => {
  const connection = await system();
  const cpu = await connection.nodeGetCPUStats(allCpus);
  t.ok((cpu['user'] ?? 0n) > 0n);
  t.ok((cpu['idle'] ?? 0n) > 0n);
  const memory = await connection.nodeGetMemoryStats(allCells);
  t.ok((memory['total'] ?? 0n) > (memory['free'] ?? 0n));
});

t.test('pages of memory are counted and set aside', { skip }, async (t) => {
  const connection = await system();
  const [small = 0n, huge] = await connection.nodeGetFreePages([4, 2_048], 0, 1);
  t.ok(small > 0n);
  t.equal(typeof huge, 'bigint');
  // None is added: this is the memory of the machine itself.
  t.equal(await connection.nodeAllocPages([2_048], [0n], 0, 1, add), 1);
});

t.test('sharing of memory is tuned', { skip }, async (t) => {
  const connection = await system();
  const folder = await layOver(daemon().host, '/sys/kernel/mm', {
    'ksm/pages_to_scan': '100\n',
    'ksm/pages_shared': `${1n << 40n}\n`,
    'ksm/merge_across_nodes': '1\n',
  });
  t.strictSame(await connection.nodeGetMemoryParameters(), {
    shm_pages_to_scan: 100,
    shm_pages_shared: 1n << 40n,
    shm_merge_across_nodes: 1,
  });
  await connection.nodeSetMemoryParameters({ shm_pages_to_scan: 200, shm_merge_across_nodes: 0 });
  t.equal(readFileSync(join(folder, 'ksm/pages_to_scan'), 'utf8'), '200');
  t.equal(readFileSync(join(folder, 'ksm/merge_across_nodes'), 'utf8'), '0');
});

t.test('what this host cannot do is refused', { skip }, async (t) => {
  const connection = await system();
  // A private host has no D-Bus: nothing there can send the machine to sleep.
  t.match(await failureOf(connection.nodeSuspendForDuration(toMemory, 60)), {
    codeName: 'VIR_ERR_ARGUMENT_UNSUPPORTED',
  });
});

t.test('what AMD SEV offers is told where the processor has it', { skip }, async (t) => {
  const connection = await system();
  const info = await connection.nodeGetSEVInfo().catch((error: LibvirtError) => error);
  if (info instanceof LibvirtError) t.match(info, { codeName: 'VIR_ERR_OPERATION_UNSUPPORTED' });
  else t.type(info['pdh'], 'string');
});

t.test('every method of Connection for the host was called', { skip }, (t) => called.check(t));
