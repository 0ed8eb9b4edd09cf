/** Domain: processors, memory, and the limits of both; typed parameters in both directions. */
import t from 'tap';
import { Domain } from '../../src/domain.ts';
import { constants } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { record } from './called.ts';
import { daemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, GUEST_PROGRAMS, guestXml, once } from './domain-guest.ts';
import { DOMAIN_SHARES } from './shares.ts';

const { VIR_DOMAIN_AFFECT_CONFIG: config, VIR_DOMAIN_AFFECT_LIVE: live } =
  constants.virDomainModificationImpact;
const { virDomainVcpuFlags: vcpuFlags, virDomainMemoryModFlags: memoryFlags } = constants;
const { virDomainMemoryStatTags: tags } = constants;

const called = record(Domain, DOMAIN_SHARES, 'tuning');
const { skip, connectionTo } = await daemonForFile(t, GUEST_HOST, GUEST_PROGRAMS);

const MAC = '52:54:00:6e:61:64';
const DEFINITION = {
  memoryMib: 64,
  vcpus: "<vcpu current='2'>4</vcpu>",
  devices: `<interface type='bridge'><mac address='${MAC}'/><source bridge='nad0'/></interface>
    <memballoon model='virtio'/>`,
};
/** Bitmap of CPUs 0 and 3. */
const CPUS_0_3 = Uint8Array.of(0b1001);

/** A domain of the test driver that runs; shared by the tests of this file. */
const running = once(async () => {
  const connection = await connectionTo('test:///default');
  const domain = await defineGuest(
    t,
    connection,
    guestXml({ name: 'nad-live', type: 'test', ...DEFINITION }),
  );
  await domain.create();
  return domain;
});

/** A domain of QEMU that is off; shared as well. */
const defined = once(async () =>
  defineGuest(t, await connectionTo('qemu:///system'), guestXml({ name: 'nad-config', ...DEFINITION })),
);

t.test('a domain has processors, and can be given more', { skip }, async (t) => {
  const domain = await running();
  t.equal(await domain.getMaxVcpus(), 4);
  t.equal(await domain.getVcpusFlags(vcpuFlags.VIR_DOMAIN_VCPU_LIVE), 2);
  await domain.setVcpus(3);
  t.equal(await domain.getVcpusFlags(vcpuFlags.VIR_DOMAIN_VCPU_LIVE), 3);
  await domain.setVcpusFlags(1, vcpuFlags.VIR_DOMAIN_VCPU_CONFIG);
  t.equal(await domain.getVcpusFlags(vcpuFlags.VIR_DOMAIN_VCPU_CONFIG), 1);
});

t.test('a domain runs on some processors of the host', { skip }, async (t) => {
  const domain = await running();
  await domain.pinVcpu(1, CPUS_0_3);
  await domain.pinVcpuFlags(2, Uint8Array.of(0b10));
  const { info, cpumaps } = await domain.getVcpus(3, 2);
  t.match(info[1], {
    number: 1,
    state: constants.virVcpuState.VIR_VCPU_RUNNING,
    cpu_time: BigInt,
    cpu: Number,
  });
  t.strictSame(
    [...cpumaps],
    [0xff, 0xff, 0b1001, 0, 0b10, 0],
    'the test driver says that its host has 16 CPUs',
  );
  const pins = await domain.getVcpuPinInfo(3, 1, live);
  t.equal(pins.num, 3);
  t.strictSame([...pins.cpumaps], [0xff, 0b1001, 0b10]);
  await domain.pinEmulator(CPUS_0_3, live);
  const emulator = await domain.getEmulatorPinInfo(1, live);
  t.equal(emulator.ret, 1);
  t.strictSame([...emulator.cpumaps], [0b1001]);
});

t.test('a domain has memory, and can be given more', { skip }, async (t) => {
  const domain = await running();
  t.equal(await domain.getMaxMemory(), 65_536n);
  await domain.setMemory(40_960);
  t.equal((await domain.getInfo()).memory, 40_960n);
  await domain.setMemoryFlags(49_152n, memoryFlags.VIR_DOMAIN_MEM_LIVE);
  t.equal((await domain.getInfo()).memory, 49_152n);
  const stats = await domain.memoryStats();
  t.strictSame(
    stats.find(({ tag }) => tag === tags.VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON),
    {
      tag: tags.VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON,
      val: 49_152n,
    },
  );
  await domain.setMemoryStatsPeriod(2);
  t.match(await domain.getXMLDesc(), "<stats period='2'/>");
});

t.test('a domain has I/O threads', { skip }, async (t) => {
  const domain = await running();
  await domain.addIOThread(7);
  await domain.setIOThreadParams(7, { poll_max_ns: 5_000, poll_grow: 2, poll_shrink: 3 }, live);
  await domain.pinIOThread(7, CPUS_0_3);
  const [thread] = await domain.getIOThreadInfo();
  t.equal(thread?.iothread_id, 7);
  t.equal(thread?.cpumap[0], 0b1001);
  await domain.delIOThread(7);
  t.strictSame(await domain.getIOThreadInfo(), []);
});

t.test('a domain says how much CPU time it had', { skip }, async (t) => {
  const domain = await running();
  const total = await domain.getCPUStats(-1, 1);
  t.equal(total.length, 1);
  t.match(total[0], { cpu_time: BigInt, user_time: BigInt, system_time: BigInt });
  const each = await domain.getCPUStats(0, 0);
  for (const cpu of each) t.match(cpu, { cpu_time: BigInt, vcpu_time: BigInt });
  // Of the two CPUs that the test driver has, the second has worked a nanosecond more.
  t.strictSame(
    each.map(({ cpu_time }) => BigInt(cpu_time ?? 0) - BigInt(each[0]?.cpu_time ?? 0)),
    [0n, 1n],
  );
  t.strictSame(await domain.getCPUStats(1, 1), each.slice(1));
});

t.test('a domain has a share of the host', { skip }, async (t) => {
  const domain = await running();
  t.strictSame(await domain.getSchedulerType(), { type: 'fair', nparams: 1 });
  t.strictSame(await domain.getSchedulerParameters(), { weight: 50 });
  await domain.setSchedulerParameters({ weight: 10 });
});

t.test('the maximum of memory is kept, and which processors are there', { skip }, async (t) => {
  const domain = await defined();
  await domain.setMaxMemory(131_072n);
  t.equal(await domain.getMaxMemory(), 131_072n);
  await domain.setVcpu('2', true, config);
  t.match(await domain.getXMLDesc(), "<vcpu id='2' enabled='yes'");
  await domain.setVcpu('2', false, config);
  t.match(await domain.getXMLDesc(), "<vcpu id='2' enabled='no'");
});

t.test('limits of the scheduler are kept', { skip }, async (t) => {
  const domain = await defined();
  t.strictSame(await domain.getSchedulerType(), { type: 'posix', nparams: 9 });
  await domain.setSchedulerParametersFlags(
    { cpu_shares: 2_048, vcpu_period: 100_000n, vcpu_quota: -1 },
    config,
  );
  t.hasStrict(await domain.getSchedulerParametersFlags(config), {
    cpu_shares: 2_048n,
    vcpu_period: 100_000n,
    vcpu_quota: -1n,
  });
});

t.test('limits of memory are kept', { skip }, async (t) => {
  const domain = await defined();
  await domain.setMemoryParameters({ hard_limit: 200_000, soft_limit: 150_000n }, config);
  t.hasStrict(await domain.getMemoryParameters(config), { hard_limit: 200_000n, soft_limit: 150_000n });
});

t.test('weights of disks are kept, as number and as text', { skip }, async (t) => {
  const domain = await defined();
  await domain.setBlkioParameters({ weight: 500, device_weight: '/dev/null,300' }, config);
  t.hasStrict(await domain.getBlkioParameters(config), { weight: 500, device_weight: '/dev/null,300' });
});

t.test('it is kept where memory comes from', { skip }, async (t) => {
  const domain = await defined();
  const { VIR_DOMAIN_NUMATUNE_MEM_PREFERRED: numa_mode } = constants.virDomainNumatuneMemMode;
  await domain.setNumaParameters({ numa_mode, numa_nodeset: '0' }, config);
  t.strictSame(await domain.getNumaParameters(config), { numa_mode, numa_nodeset: '0' });
});

t.test('limits of network interfaces are kept', { skip }, async (t) => {
  const domain = await defined();
  await domain.setInterfaceParameters(
    MAC,
    { 'inbound.average': 1_000, 'outbound.peak': 5, 'outbound.average': 4 },
    config,
  );
  t.hasStrict(await domain.getInterfaceParameters(MAC, config), {
    'inbound.average': 1_000,
    'inbound.floor': 0,
    'outbound.average': 4,
    'outbound.peak': 5,
  });
});

t.test('it is kept which events of the processor are counted', { skip }, async (t) => {
  const domain = await defined();
  t.hasStrict(await domain.getPerfEvents(config), { cpu_cycles: false, cmt: false });
  await domain.setPerfEvents({ cpu_cycles: true }, config);
  t.hasStrict(await domain.getPerfEvents(config), { cpu_cycles: true, cmt: false });
});

t.test(
  'a typed parameter of a name that no libvirt has is refused before it is sent',
  { skip },
  async (t) => {
    const domain = await (await connectionTo('test:///default')).domainLookupByName('test');
    t.match(await failureOf(domain.setMemoryParameters({ hard_limits: 1 })), { name: 'LibvirtUsageError' });
    const explicit = { hard_limits: { type: 'ullong', value: 1 } } as const;
    t.match(await failureOf(domain.setMemoryParameters(explicit)), {
      codeName: 'VIR_ERR_ARGUMENT_UNSUPPORTED',
    });
  },
);

t.test('every method of Domain for tuning was called', { skip }, (t) => called.check(t));
