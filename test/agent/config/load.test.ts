import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig, parseConfig } from '../../../src/agent/config/load.ts';

t.test('an empty file is a whole configuration, and nobody can change it', async (t) => {
  const config = parseConfig('', 'berthd.toml');
  t.equal(config.socket.path, '/run/berth/berth.sock');
  t.equal(config.capacity.reservedMemoryMib, 1024);
  t.throws(() => Object.assign(config.socket, { path: '/x' }), TypeError);
});

t.test('the shipped file has every default', async (t) => {
  t.same(loadConfig('systemd/berthd.toml'), parseConfig('', 'x'));
});

const STORE =
  '[[objects]]\nname = "b"\nendpoint = "https://s3.example:9000"\nbucket = "abc"\ncredentialsFile = "/c"\n';

const FOLDER = '[[objects]]\nname = "f"\npath = "/mnt/backup"\n';

t.test('a folder is an object store', async (t) => {
  const { objects } = parseConfig(`${FOLDER}prefix = "a/"\n${STORE}`, 'f.toml');
  t.match(objects, [{ name: 'f', path: '/mnt/backup', prefix: 'a/' }, { name: 'b' }]);
});

t.test('object stores are listed by name, with their defaults', async (t) => {
  const { objects } = parseConfig(`${STORE}${STORE.replace('"b"', '"c"')}caFile = "/ca"\n`, 'f.toml');
  t.match(objects, [
    { name: 'b', region: 'us-east-1', prefix: '', pathStyle: true },
    { name: 'c', caFile: '/ca' },
  ]);
});

const REFUSED: [name: string, text: string, message: RegExp][] = [
  [
    'an unknown key',
    '[socket]\n\npth = "/x"',
    /^f\.toml:3: socket\.pth: unknown key "pth"; did you mean path\?/,
  ],
  ['an unknown section', '[nod]\n', /^f\.toml:1: nod: .*did you mean node\?/],
  ['an unknown key in an inline table', 'socket = { pth = "/x" }', /^f\.toml:1: socket\.pth/],
  ['a dotted key', '\nlog.levl = "info"', /^f\.toml:2: log\.levl: .*did you mean level\?/],
  ['a wrong type', '[log]\nlevel = 3', /^f\.toml:2: log\.level: 3 is not one of trace/],
  ['a number out of range', '[capacity]\nvcpuRatio = 1000', /^f\.toml:2: capacity\.vcpuRatio: must be <= 64/],
  [
    'a warning above what is critical',
    '[capacity]\npoolWarningPercent = 96',
    /^f\.toml:1: capacity: poolWarningPercent \(96\) is above poolCriticalPercent \(95\)/,
  ],
  ['a relative path', '[storage]\npath = "pool"', /^f\.toml:2: storage\.path/],
  ['what is not TOML', '[log\nlevel', /^f\.toml:\d: /],
  ['a key given twice', '[log]\nlevel = "info"\nlevel = "warn"', /^f\.toml:/],
  ['a certificate without its key', '[scheduler]\nurl = "wss://a"\ncertFile = "/c"', /go together/],
  [
    'a certificate without TLS',
    '[scheduler]\nurl = "ws://a"\ncertFile = "/c"\nkeyFile = "/k"\ntokenFile = "/t"',
    /need a wss:\/\/ url/,
  ],
  ['a role that there is not', '[scheduler]\nrole = "root"', /role/],
  ['two sockets at one place', '[socket]\nreadOnlyPath = "/run/berth/berth.sock"', /the same as path/],
  ['a scheduler without a token', '[scheduler]\nurl = "ws://127.0.0.1:1"', /url needs tokenFile/],
  [
    'an object store without a bucket',
    STORE.replace(/bucket.*\n/, ''),
    /^f\.toml:1: objects\.0: bucket is missing/,
  ],
  [
    'an object store of neither form',
    '[[objects]]\nname = "b"\n',
    /^f\.toml:1: objects\.0: endpoint is missing, or path, for a folder/,
  ],
  [
    'an object store of both forms',
    `${STORE}path = "/mnt"\n`,
    /^f\.toml:3: objects\.0\.endpoint: endpoint is of a bucket, and path makes the store a folder/,
  ],
  [
    'a folder with a region',
    `${FOLDER}region = "us-east-1"\n`,
    /^f\.toml:4: objects\.0\.region: region is of a bucket/,
  ],
  ['a folder by a relative path', FOLDER.replace('/mnt', 'mnt'), /objects\.0\.path/],
  [
    'a folder too many',
    [1, 2, 3, 4, 5].map((at) => FOLDER.replace('"f"', `"f${at}"`)).join(''),
    /objects: more than 4 folders/,
  ],
  ['two object stores of one name', STORE + STORE, /two object stores are named b/],
  ['an unknown key of a store', `${STORE}secret = "x"\n`, /^f\.toml:6: objects\.0\.secret: unknown key/],
  [
    'an endpoint that is no address',
    STORE.replace('https://s3.example:9000', 'file:///etc'),
    /objects\.0\.endpoint/,
  ],
  ['an endpoint with a path', STORE.replace(':9000', ':9000/a'), /objects\.0\.endpoint/],
  ['a key named none', '[[keys]]\nname = "none"\nfile = "/k"\n', /keys\.0\.name/],
  ['a key in no absolute file', '[[keys]]\nname = "a"\nfile = "k"\n', /keys\.0\.file/],
  [
    'two keys of one name',
    '[[keys]]\nname = "a"\nfile = "/k"\n[[keys]]\nname = "a"\nfile = "/l"\n',
    /two keys are named a/,
  ],
  ['a key with its digits in the configuration', '[[keys]]\nname = "a"\nkey = "00"\n', /keys\.0/],
  ['a prefix that climbs', `${STORE}prefix = "../"\n`, /objects\.0\.prefix/],
  [
    'a socket path too long for the kernel',
    `[socket]\npath = "/${'x'.repeat(120)}"`,
    /longer than 100 characters/,
  ],
];
for (const [name, text, message] of REFUSED) {
  t.test(`${name} is refused with file and line`, async (t) => {
    t.throws(() => parseConfig(text, 'f.toml'), { code: 'INVALID_ARGUMENT', message });
  });
}

t.test('a file that is missing, or too large, says so', async (t) => {
  const folder = t.testdir();
  t.throws(() => loadConfig(join(folder, 'none.toml')), {
    code: 'INVALID_ARGUMENT',
    message: /Cannot read the configuration/,
  });
  writeFileSync(join(folder, 'large.toml'), '#'.repeat(1024 * 1024 + 1));
  t.throws(() => loadConfig(join(folder, 'large.toml')), {
    code: 'INVALID_ARGUMENT',
    message: /larger than/,
  });
});
