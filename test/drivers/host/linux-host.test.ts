import { readFile } from 'node:fs/promises';
import { availableParallelism, hostname } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../../src/drivers/contracts/clock.ts';
import { traitsOfFlags } from '../../../src/drivers/host/cpu-traits.ts';
import { judgeKvmMode } from '../../../src/drivers/host/examine.ts';
import { configuredUser } from '../../../src/drivers/host/examine-pool-way.ts';
import { type Exec, HostExec, ProcessError } from '../../../src/drivers/host/exec.ts';
import { countCpus, cpuFlags, cpuModelName, memTotalMib } from '../../../src/drivers/host/kernel-text.ts';
import { LinuxHost, type LinuxHostParts } from '../../../src/drivers/host/linux-host.ts';
import { Finding } from '../../../src/model/node.ts';
import { findFault } from '../../../src/model/validate.ts';

const exec = new HostExec();

async function finding(check: string, parts: Partial<LinuxHostParts> = {}): Promise<Finding | undefined> {
  const findings = await new LinuxHost({ exec, ...parts }).examine();
  return findings.find((finding) => finding.check === check);
}

/** A host on which some programs answer with this text, and all others are as they are. */
function answering(answers: Record<string, string>): Exec {
  return {
    run: (program, args, options) => {
      const stdout = answers[program];
      return stdout === undefined
        ? exec.run(program, args, options)
        : Promise.resolve({ exitCode: 0, stdout, stderr: '' });
    },
  };
}

t.test('the facts of this host agree with the kernel and with each other', async (t) => {
  const facts = await new LinuxHost({ exec }).facts();
  t.equal(facts.hostname, hostname());
  t.ok(facts.cpus >= availableParallelism());
  t.ok(facts.memoryMib.procMeminfo > 0);
  t.equal(facts.memoryMib.systeminformation, facts.memoryMib.procMeminfo);
  for (const text of [facts.architecture, facts.cpuModel, facts.operatingSystem, facts.kernel]) t.ok(text);
});

t.test('facts that come too late are DEADLINE_EXCEEDED', async (t) => {
  await t.rejects(new LinuxHost({ exec }).facts({ timeoutMs: 1 }), { code: 'DEADLINE_EXCEEDED' });
});

t.test(
  'every finding is well formed, has a name of its own, and says how to mend what is wrong',
  async (t) => {
    const findings = await new LinuxHost({ exec, poolPath: '/' }).examine();
    for (const found of findings) t.equal(findFault(Finding, found), null, found.check);
    t.equal(new Set(findings.map(({ check }) => check)).size, findings.length);
    for (const { verdict, mend } of findings) t.ok(verdict !== 'failure' || mend);
  },
);

t.test('a clock that is long past is a failure', async (t) => {
  const clock = { ...systemClock, now: () => 0 };
  t.match(await finding('clock', { clock }), { verdict: 'failure', message: /1970-01-01/ });
});

t.test('the clock is judged by the first service that can tell', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['yes\n', '', /timedated says that the clock is synchronised/],
    ['no\n', '', /timedated says that the clock is not/],
    ['', 'A29FC801,x,3,1.0,Normal\n', /chronyd says that the clock is synchronised/],
    ['', '7F7F0101,x,0,0.0,Not synchronised\n', /chronyd says that the clock is not/],
  ];
  for (const [timedatectl, chronyc, message] of cases) {
    const found = await finding('clock', { exec: answering({ timedatectl, chronyc }) });
    t.match(found, { verdict: message.source.includes('not') ? 'warning' : 'ok', message });
  }
});

t.test(
  "whether QEMU's user reaches the pool is tried",
  { skip: process.getuid?.() !== 0 && 'only root can' },
  async (t) => {
    const qemuUser = 'nobody';
    const folder = t.testdir({ open: {}, shut: { inner: {} } });
    await exec.run('chmod', ['0700', join(folder, 'shut')]);
    const shut = await finding('way to the pool', { qemuUser, poolPath: join(folder, 'shut/inner') });
    t.match(shut, { verdict: 'failure', message: /cannot pass through/, mend: /chmod o\+x/ });
    t.match(await finding('way to the pool', { qemuUser, poolPath: '/usr/bin' }), { verdict: 'ok' });
    const nobody = await finding('way to the pool', { qemuUser: 'no-such-user', poolPath: '/usr' });
    t.match(nobody, { verdict: 'warning', message: /no user of QEMU/ });
  },
);

t.test('a check that cannot look is a warning, and the others go on', async (t) => {
  const broken = answering({ id: 'not-a-number' });
  const found = await finding('way to the pool', { exec: broken, poolPath: '/usr', qemuUser: 'nobody' });
  if (process.getuid?.() === 0) t.match(found, { verdict: 'warning', message: /could not be looked at/ });
  t.ok(await finding('cgroups', { exec: broken }));
});

t.test("QEMU's user is the one that libvirt is configured with", async (t) => {
  t.equal(configuredUser('#user = "root"\n user = "qemu"\ngroup = "kvm"\n'), 'qemu');
  t.equal(configuredUser('user = "+107"\n'), '107');
  t.equal(configuredUser('#user = "root"\n'), null);
});

t.test("the kernel's files are taken apart", async (t) => {
  t.equal(memTotalMib('MemTotal:       24683620 kB\nMemFree: 1 kB\n'), 24_105);
  t.throws(() => memTotalMib('MemFree: 1 kB\n'), { code: 'UNAVAILABLE' });
  t.equal(countCpus('0\n'), 1);
  t.equal(countCpus('0-3,8,10-11\n'), 7);
  t.throws(() => countCpus('\n'), { code: 'UNAVAILABLE' });
  t.throws(() => countCpus('0-x'), { code: 'UNAVAILABLE' });
  const cpuinfo =
    'processor : 0\nmodel name\t: Some CPU  \nflags\t\t: fpu avx2 vmx\n\nprocessor : 1\nflags : x\n';
  t.same(cpuFlags(cpuinfo), ['fpu', 'avx2', 'vmx']);
  t.equal(cpuModelName(cpuinfo), 'Some CPU');
  t.same(cpuFlags(''), []);
  t.equal(cpuModelName(''), null);
});

t.test('flags become traits by their standard names, and unknown ones nothing', async (t) => {
  t.same(traitsOfFlags(['vmx', 'avx2', 'toString', 'fpu']), [
    'HW_CPU_X86_AVX2',
    'HW_CPU_X86_INTEL_VMX',
    'HW_CPU_X86_VMX',
  ]);
  const flags = cpuFlags(await readFile('/proc/cpuinfo', 'utf8'));
  t.ok(traitsOfFlags(flags).every((trait) => /^HW_CPU_X86_[A-Z0-9_]+$/.test(trait)));
});

t.test("a KVM device that is root's alone is a warning that says what libvirt does then", async (t) => {
  t.match(judgeKvmMode('kvm device', 0o020600), { verdict: 'warning', message: /probes QEMU anew/ });
  for (const mode of [0o020660, 0o020666]) t.match(judgeKvmMode('kvm device', mode), { verdict: 'ok' });
});

t.test('the boot of this host has an id, the same one until the next', async (t) => {
  const host = new LinuxHost({ exec });
  const bootId = await host.bootId();
  t.match(bootId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  t.equal(await host.bootId(), bootId);
});

t.test('a host goes down when systemd says so; under another init it is not known to', async (t) => {
  const systemdFolder = '/proc';
  const states: [string, boolean][] = [
    ['running\n', false],
    ['degraded\n', false],
    ['stopping\n', true],
  ];
  for (const [systemctl, stopping] of states) {
    const host = new LinuxHost({ exec: answering({ systemctl }), systemdFolder });
    t.equal(await host.isStopping(), stopping, systemctl.trim());
  }
  for (const systemctl of ['', 'unknown\n', 'offline\n', 'Failed to connect to bus\n']) {
    const host = new LinuxHost({ exec: answering({ systemctl }), systemdFolder });
    await t.rejects(host.isStopping(), { code: 'UNAVAILABLE' }, JSON.stringify(systemctl));
  }
  const elsewhere = new LinuxHost({
    exec: answering({ systemctl: 'stopping\n' }),
    systemdFolder: '/nowhere',
  });
  t.equal(await elsewhere.isStopping(), false);
});

t.test('systemd that can not be asked is UNAVAILABLE', async (t) => {
  const failing: Exec = { run: () => Promise.reject(new ProcessError('systemctl', 127, '', 'ended')) };
  await t.rejects(new LinuxHost({ exec: failing, systemdFolder: '/proc' }).isStopping(), {
    code: 'UNAVAILABLE',
  });
});
