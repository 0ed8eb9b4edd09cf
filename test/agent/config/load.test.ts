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
  ['a relative path', '[storage]\npath = "pool"', /^f\.toml:2: storage\.path/],
  ['what is not TOML', '[log\nlevel', /^f\.toml:\d: /],
  ['a key given twice', '[log]\nlevel = "info"\nlevel = "warn"', /^f\.toml:/],
  ['a scheduler without a token', '[scheduler]\nurl = "ws://127.0.0.1:1"', /url needs tokenFile/],
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
