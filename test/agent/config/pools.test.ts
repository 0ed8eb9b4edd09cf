import t from 'tap';
import { parseConfig } from '../../../src/agent/config/load.ts';
import { poolSettings } from '../../../src/agent/config/pools.ts';

const POOL = '[[pools]]\nname = "fast"\npath = "/srv/fast"\n';
const NFS = `${POOL}nfs = "nas.example:/export/node1"\n`;

function other(name: string, path: string): string {
  return `[[pools]]\nname = "${name}"\npath = "${path}"\n`;
}

t.test('the default pool is that of [storage] and [capacity], and comes first', async (t) => {
  const config = parseConfig(
    `[storage]\npath = "/srv/pool"\n[capacity]\ndiskRatio = 3\npoolWarningPercent = 50\n${NFS}`,
    'f.toml',
  );
  t.same(poolSettings(config), [
    {
      name: 'default',
      path: '/srv/pool',
      nfs: null,
      shared: false,
      diskRatio: 3,
      reservedDiskGib: 2,
      warningPercent: 50,
      criticalPercent: 95,
    },
    {
      name: 'fast',
      path: '/srv/fast',
      nfs: { source: 'nas.example:/export/node1', options: 'hard,nosuid,nodev,noexec' },
      shared: false,
      diskRatio: 1,
      reservedDiskGib: 2,
      warningPercent: 85,
      criticalPercent: 95,
    },
  ]);
  t.equal(poolSettings(parseConfig('', 'f.toml')).length, 1, 'a file of before names no other');
});

t.test('a shared pool is mounted so that no name is known from before', (t) => {
  const optionsOf = (more: string) => poolSettings(parseConfig(`${NFS}${more}`, 'f.toml'))[1]?.nfs?.options;
  t.equal(optionsOf('shared = true\n'), 'hard,nosuid,nodev,noexec,lookupcache=none');
  t.equal(
    optionsOf('shared = true\nnfsOptions = "hard,lookupcache=positive"\n'),
    'hard,lookupcache=positive',
  );
  t.end();
});

const REFUSED: [name: string, text: string, message: RegExp][] = [
  ['the name of the default pool', other('default', '/srv/a'), /can have its name/],
  ['a name that is a path', other('../a', '/srv/a'), /pools\.0\.name/],
  ['two pools of one name', POOL + other('fast', '/srv/b'), /two pools are named fast/],
  [
    'two pools in one folder',
    POOL + other('b', '/srv/fast'),
    /\/srv\/fast of pool b and .* are in each other/,
  ],
  ['a pool within another', POOL + other('b', '/srv/fast/b'), /are in each other/],
  ['a pool around another', POOL + other('b', '/srv'), /are in each other/],
  ['a pool within the default one', other('b', '/var/lib/berth/pool/volumes'), /are in each other/],
  ['a relative path', other('b', 'srv'), /pools\.0\.path/],
  ['the root', other('b', '/'), /pools\.0\.path/],
  ['a path with a line break', other('b', '/srv\\na'), /pools\.0\.path/],
  ['a pool without a path', '[[pools]]\nname = "b"\n', /path is missing/],
  ['an unknown key', `${POOL}ratio = 2\n`, /pools\.0\.ratio: unknown key/],
  ['a warning above what is critical', `${POOL}warningPercent = 96\n`, /warningPercent \(96\) of pool fast/],
  ...['nas', 'nas:export', ':/export', '-o:/x', 'nas:/a,rw', 'nas:/a b', 'a b:/x', '--bind:/x'].map(
    (source): [string, string, RegExp] => [
      `an export that is ${source}`,
      `${POOL}nfs = "${source}"\n`,
      /pools\.0\.nfs/,
    ],
  ),
  ...['', 'hard,', 'hard rw', 'hard;id', 'a=$(id)', '"x'].map((options): [string, string, RegExp] => [
    `mount options that are ${options}`,
    `${NFS}nfsOptions = '${options}'\n`,
    /pools\.0\.nfsOptions/,
  ]),
  ['too many pools', Array.from({ length: 16 }, (_, n) => other(`p${n}`, `/srv/p${n}`)).join(''), /pools/],
];
for (const [name, text, message] of REFUSED) {
  t.test(`${name} is refused`, async (t) => {
    t.throws(() => parseConfig(text, 'f.toml'), { code: 'INVALID_ARGUMENT', message });
  });
}
