/**
 * Berth on a whole host under systemd: installed, started, stopped, broken, upgraded and removed, with a guest that
 * must not notice any of it.
 *
 * The tests follow each other on one host, as a host's life does.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../e2e/support/node.ts';
import { CHECKOUT, Container, GUEST_IMAGE, whyNoContainer } from './support/container.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** Building the kept root takes minutes on a loaded machine, all tests together one or two, ms. */
const FILE_MS = 1_800_000;
const TEST_MS = 300_000;
/** Bounds of waits, ms. */
const GUEST_MS = 180_000;
const UNIT_MS = 90_000;

/** Exposure levels of `systemd-analyze security`, 0 to 10: what the sandboxes have reached is not given up. */
const AGENT_EXPOSURE = 4.0;
const SCHEDULER_EXPOSURE = 1.2;

t.setTimeout(FILE_MS);
const { host, skip } = await prepare();
const onHost = { skip, timeout: TEST_MS };

t.test(
  'scripts/install puts programs, units and a commented configuration below a folder',
  onHost,
  async (t) => {
    for (const path of [
      'usr/bin/berthd',
      'usr/lib/berth/node',
      'usr/share/bash-completion/completions/berth',
    ]) {
      t.ok(existsSync(join(host!.root, path)), path);
    }
    const config = readFileSync(join(host!.root, 'etc/berth/berthd.toml'), 'utf8');
    t.equal(config, readFileSync(join(ROOT, 'systemd/berthd.toml'), 'utf8'));
    t.throws(() => install('--root', '/', '--no-build'), 'the host itself is not taken for a folder');
  },
);

t.test('after a boot users and folders are there, and the units are right', onHost, async (t) => {
  t.match(
    await host!.must('getent passwd berth-scheduler; getent group berth'),
    /berth-scheduler:.*\nberth:/s,
  );
  t.equal(await host!.must('stat -c "%a %U" /var/lib/berth /run/berth'), '711 root\n755 root');
  t.equal(await host!.must('systemd-analyze verify /usr/lib/systemd/system/berth*.service 2>&1'), '');
  for (const [unit, bound] of [
    ['berthd', AGENT_EXPOSURE],
    ['berth-scheduler', SCHEDULER_EXPOSURE],
  ] as const) {
    const exposure = await exposureOf(unit);
    t.comment(`exposure of ${unit}: ${exposure}`);
    t.ok(exposure <= bound, `${unit}: ${exposure} is at most ${bound}`);
  }
});

t.test('berthd is active when it is ready, and not before', onHost, async (t) => {
  // A start that is held up before the program begins.
  await dropIn('ExecStart=\nExecStart=/bin/sh -c "kill -STOP $$$$; exec /usr/bin/berthd"');
  await host!.must('systemctl enable --quiet berthd && systemctl start --no-block berthd');
  const pid = await until('it is held up', UNIT_MS, async () => {
    const { MainPID } = await host!.unit('berthd');
    return (await host!.run(`grep -q '^State:.T' /proc/${MainPID}/status`)).code === 0 ? MainPID! : null;
  });
  t.match(await host!.unit('berthd'), { ActiveState: 'activating', Type: 'notify' });
  await host!.must(`kill -CONT ${pid}`);
  await untilActive();
  t.match(await host!.unit('berthd'), {
    StatusText: /^version \d+\.\d+\.\d+, socket \/run\/berth\/berth\.sock$/,
    MainPID: pid,
  });
  t.match(
    await berth('status'),
    { hypervisor: { state: 'ok' }, storage: { state: 'ok' } },
    'it answers at once',
  );
  await dropIn(null);
  await host!.must('systemctl restart berthd');
});

t.test('in its sandbox it finds nothing missing', onHost, async (t) => {
  const { findings } = await berth('doctor');
  t.same(
    findings.filter(({ verdict }: { verdict: string }) => verdict === 'failure'),
    [],
  );
  t.equal(
    await host!.must('stat -c %a /run/berth/berth.sock /var/lib/berth/berth.sqlite'),
    '600\n600',
    "root's alone",
  );
  t.match(await host!.must('journalctl -u berthd -o cat'), /"acceleration":"(absent|kvm|kvm-unusable)"/);
});

t.test('images come from any path, /root, /home and /tmp included', onHost, async (t) => {
  await host!.must(
    `mkdir /home/eve && cp ${GUEST_IMAGE} /home/eve/ && cp ${GUEST_IMAGE} /tmp/ && chmod 700 /home/eve`,
  );
  for (const [name, path] of [
    ['test', GUEST_IMAGE],
    ['home', '/home/eve/test-image.qcow2'],
    ['tmp', '/tmp/test-image.qcow2'],
  ] as const) {
    await berth(`image import ${name} ${path}`);
    t.match(await berth(`image show ${name}`), { image: { name, state: 'ready' } }, name);
  }
});

t.test('a guest gets its address, and dnsmasq has a unit of its own', onHost, async (t) => {
  await berth('network create default --cidr 10.82.0.0/24');
  await createGuest('first');
  const { dnsmasq, qemu } = await processes();
  t.match(await host!.must(`cat /proc/${dnsmasq}/cgroup`), /berth-dhcp-[0-9a-f]{32}\.service/);
  t.notMatch(await host!.must(`cat /proc/${qemu}/cgroup`), /berthd\.service/);
});

for (const [what, script] of [
  ['a restart of berthd', 'systemctl restart berthd'],
  ['kill -9 of berthd', 'kill -9 $(systemctl show -P MainPID berthd)'],
  ['a reinstallation', `${CHECKOUT}/scripts/install --no-build`],
  ['a restart of libvirtd', 'systemctl restart libvirtd'],
  ['a stop and a start of berthd', 'systemctl stop berthd && ! berth status && systemctl start berthd'],
] as const) {
  t.test(
    `${what} leaves the guest and its DHCP running, and berthd has the guest again`,
    onHost,
    async (t) => {
      const before = await processes();
      await host!.must(script);
      await untilActive((unit) => what.includes('libvirtd') || unit['MainPID'] !== before.berthd);
      t.match(await processes(), { qemu: before.qemu, dnsmasq: before.dnsmasq });
      await untilRunning('first');
    },
  );
}

t.test('helpers that a killed berthd leaves behind end with it', onHost, async (t) => {
  const helper = await host!.must('setsid sleep 1000 >/dev/null 2>&1 & echo $!');
  await host!.must(`echo ${helper} > /sys/fs/cgroup/system.slice/berthd.service/cgroup.procs`);
  const before = await processes();
  await host!.must(`kill -9 ${before.berthd}`);
  await untilActive((unit) => unit['MainPID'] !== before.berthd);
  t.not((await host!.run(`kill -0 ${helper}`)).code, 0);
});

t.test('an event loop that has stopped is restarted by the watchdog', onHost, async (t) => {
  await dropIn('WatchdogSec=5');
  await host!.must('systemctl restart berthd');
  const before = await processes();
  await host!.must(`kill -STOP ${before.berthd}`);
  await untilActive((unit) => unit['MainPID'] !== before.berthd);
  t.match(await host!.must('journalctl -u berthd -o cat'), /Watchdog timeout \(limit 5s\)/);
  t.match(await processes(), { qemu: before.qemu, dnsmasq: before.dnsmasq });
  await dropIn(null);
  await host!.must('systemctl restart berthd');
  await untilRunning('first');
});

t.test(
  'a configuration that is wrong fails at once, once, with its line, and an upgrade leaves berthd running',
  onHost,
  async (t) => {
    const before = await processes();
    await host!.must(
      'cp /etc/berth/berthd.toml /tmp/right.toml && printf "\\n[lgo]\\nlevel = 1\\n" >> /etc/berth/berthd.toml',
    );
    const upgrade = await host!.run(`${CHECKOUT}/scripts/install --no-build`);
    t.match(upgrade, { code: 1, stderr: /configuration is not right/ });
    t.match(await processes(), before, 'berthd too runs on');

    t.not((await host!.run('systemctl restart berthd')).code, 0);
    t.match(await host!.unit('berthd'), { ActiveState: 'failed', Result: 'exit-code', ExecMainStatus: '2' });
    const line = Number(await host!.must('grep -n lgo /etc/berth/berthd.toml | cut -d : -f 1'));
    t.match(
      await host!.must('journalctl -u berthd -o cat -n 20'),
      new RegExp(`berthd\\.toml:${line}: lgo: .*log`, 's'),
    );
    t.match(await host!.must('systemctl list-jobs'), /No jobs/, 'no restart waits');
    t.match(
      await host!.must('pgrep -x qemu-system-x86; pgrep dnsmasq'),
      new RegExp(`${before.qemu}\n${before.dnsmasq}`),
    );

    await host!.must('cp /tmp/right.toml /etc/berth/berthd.toml && systemctl restart berthd');
    await untilRunning('first');
  },
);

t.test(
  'berth-scheduler runs as its own user, makes its token, and berthd links up with it',
  onHost,
  async (t) => {
    await host!.must('systemctl enable --quiet --now berth-scheduler');
    const token = '/var/lib/berth-scheduler/token';
    await until('the token is made', UNIT_MS, async () =>
      (await host!.run(`test -s ${token}`)).code === 0 ? true : null,
    );
    t.equal(
      await host!.must(`stat -c '%a %U' /var/lib/berth-scheduler ${token}`),
      '700 berth-scheduler\n600 berth-scheduler',
    );
    const { MainPID } = await host!.unit('berth-scheduler');
    t.equal(await host!.must(`stat -c %U /proc/${MainPID}`), 'berth-scheduler');

    await host!.must(
      `sed -i 's|^#url = .*|url = "ws://127.0.0.1:7680"|; s|^#tokenFile = .*|tokenFile = "${token}"|' /etc/berth/berthd.toml`,
    );
    await host!.must('systemctl restart berthd');
    await until('berthd is linked', UNIT_MS, async () =>
      (await berth('status')).scheduler.state === 'ok' ? true : null,
    );
    t.match(await schedulerNodes(token), /"hostname":"berth-host"/);
  },
);

t.test('after all this a second guest gets an address', onHost, async (t) => {
  await berth('instance delete first --yes');
  await createGuest('second');
  t.pass('it has one');
});

t.test(
  'a removal takes programs and units, and leaves guests, networks, configuration and state',
  onHost,
  async (t) => {
    const before = await processes();
    await host!.must(`${CHECKOUT}/scripts/install --remove`);
    t.equal(
      (
        await host!.run(
          'ls -d /usr/lib/berth /usr/bin/berth* /usr/sbin/berth* /usr/lib/systemd/system/berth* /etc/systemd/system/*/berth*',
        )
      ).stdout,
      '',
    );
    t.match(await host!.unit('berthd'), { LoadState: 'not-found', ActiveState: 'inactive' });
    t.match(
      await host!.must('pgrep -x qemu-system-x86; pgrep dnsmasq'),
      new RegExp(`${before.qemu}\n${before.dnsmasq}`),
    );
    await host!.must('ls /etc/berth/berthd.toml /var/lib/berth/berth.sqlite /var/lib/berth-scheduler/token');

    await host!.must(`${CHECKOUT}/scripts/install --no-build`);
    await untilRunning('second');
    t.match(
      await processes(),
      { qemu: before.qemu, dnsmasq: before.dnsmasq },
      'the next installation has them again',
    );
  },
);

/** A host with Berth installed that has booted, or the reason why there is none. */
async function prepare(): Promise<{ host: Container | null; skip: string | false }> {
  const reason = whyNoContainer();
  if (reason !== null) return { host: null, skip: reason };
  buildPrograms();
  const host = await orReason(Container.create());
  if (typeof host === 'string') return { host: null, skip: `no host can be made here: ${host}` };
  t.teardown(() => host.end());
  install('--root', host.root, '--no-build');
  const booted = await orReason(host.boot());
  return { host, skip: typeof booted === 'string' ? `no host boots here: ${booted}` : false };
}

async function orReason<T>(promise: Promise<T>): Promise<T | string> {
  return promise.catch((error: Error) => error.message);
}

/** dist/ as the source is now; what scripts/test has built is taken. */
function buildPrograms(): void {
  const built = join(ROOT, 'dist/agent/main.js');
  const sources = globSync([join(ROOT, 'src/**/*.ts'), join(ROOT, 'packages/*/src/**/*.ts')]);
  const builtAt = existsSync(built) ? statSync(built).mtimeMs : 0;
  if (sources.every((file) => statSync(file).mtimeMs < builtAt)) return;
  execFileSync(process.execPath, [join(ROOT, 'scripts/build.ts')], { stdio: 'ignore' });
}

function install(...options: string[]): void {
  execFileSync(join(ROOT, 'scripts/install'), options, { stdio: 'pipe' });
}

async function exposureOf(unit: string): Promise<number> {
  const text = await host!.must(`systemd-analyze security --no-pager ${unit}.service | tail -n 1`);
  return Number(/: ([\d.]+)/.exec(text)?.[1]);
}

/** Replaces what changes the unit for one test; null for nothing. */
async function dropIn(service: string | null): Promise<void> {
  const folder = '/run/systemd/system/berthd.service.d';
  const make =
    service === null
      ? ''
      : `mkdir -p ${folder} && printf '%s\\n' '[Service]' '${service}' > ${folder}/test.conf &&`;
  await host!.must(`rm -rf ${folder}; ${make} systemctl daemon-reload`);
}

/** `berth … --json`: what it prints. */
async function berth(command: string) {
  return JSON.parse(await host!.must(`berth ${command} --json`));
}

async function createGuest(name: string): Promise<void> {
  await berth(`instance create --name ${name} --image test --network default --memory-mib 256`);
  await until(`${name} reports an address`, GUEST_MS, async () => {
    const { instance } = await berth(`instance show ${name}`);
    const addresses: { address: string }[] = instance.guest?.addresses ?? [];
    return addresses.some(({ address }) => address.startsWith('10.82.0.')) ? true : null;
  });
}

async function untilRunning(name: string): Promise<void> {
  await until(`${name} is known to run`, UNIT_MS, async () => {
    const { instance } = await berth(`instance show ${name}`);
    return instance.power.state === 'running' ? true : null;
  });
}

async function untilActive(isMeant: (unit: Record<string, string>) => boolean = () => true): Promise<void> {
  await until('berthd is active', UNIT_MS, async () => {
    const unit = await host!.unit('berthd');
    return unit['ActiveState'] === 'active' && isMeant(unit) ? true : null;
  });
}

/** Pids of the one guest, of the one network's dnsmasq, and of berthd. */
async function processes(): Promise<{ qemu: string; dnsmasq: string; berthd: string }> {
  const look = 'echo "$(pgrep -x qemu-system-x86) $(pgrep -x dnsmasq) $(systemctl show -P MainPID berthd)"';
  const [qemu = '', dnsmasq = '', berthd = ''] = (await host!.must(look)).split(' ');
  return { qemu, dnsmasq, berthd };
}

/** The body of GET /v1/nodes, asked for inside the host. */
async function schedulerNodes(tokenFile: string): Promise<string> {
  const call = `fetch('http://127.0.0.1:7680/v1/nodes', { headers: { authorization: 'Bearer ' + process.argv[1] } })
    .then((answer) => answer.text()).then(console.log)`;
  return host!.must(`/usr/lib/berth/node -e "${call}" "$(cat ${tokenFile})"`);
}
