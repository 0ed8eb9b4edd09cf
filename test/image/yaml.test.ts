/** The guest's reader of seeds: the same awk program, run by the same busybox, that the image holds. */
import { deepEqual } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import fc from '../property.ts';

const PROGRAM = join(import.meta.dirname, '..', '..', 'scripts', 'test-image', 'yaml.awk');
const busybox = spawnSync('busybox', ['true']).status === 0;
const skip = busybox ? false : 'no busybox: run scripts/bootstrap image';

/** Property runs: each starts a process. */
const RUNS = 60;

t.test(
  'block style is flattened, with lists, nested maps, comments and block scalars',
  { skip },
  async (t) => {
    const text = [
      '#cloud-config',
      '# a comment',
      'hostname: web-1  # its name',
      'keys:',
      '- "one # not a comment"',
      "- 'it''s'",
      'runcmd:',
      '  - |',
      '    for i in 1 2; do',
      '      echo $i',
      '    done',
      '  - - ls',
      '    - -l',
      '  - {a: b}',
      'net:',
      '  n0:',
      '    match: {mac: "52:54:00:00:00:01"}',
      '    addresses: [192.0.2.1/24,',
      '      2001:db8::1/64]',
      'last: true',
    ].join('\n');
    t.same(flatten(text).lines, [
      'hostname\tweb-1',
      'keys/0\tone # not a comment',
      "keys/1\tit's",
      'runcmd/0\tfor i in 1 2; do\\n  echo $i\\ndone\\n',
      'runcmd/1/0\tls',
      'runcmd/1/1\t-l',
      'runcmd/2/a\tb',
      'net/n0/match/mac\t52:54:00:00:00:01',
      'net/n0/addresses/0\t192.0.2.1/24',
      'net/n0/addresses/1\t2001:db8::1/64',
      'last\ttrue',
    ]);
  },
);

t.test('an empty file has no values', { skip }, async (t) => {
  t.same(flatten('---\n# nothing\n'), { status: 0, lines: [] });
});

t.test('what can not be read ends with 1', { skip }, async (t) => {
  for (const text of ['{"a": }', 'a: {b', '["a" "b"]', '{"a": 1} x']) t.equal(flatten(text).status, 1, text);
});

t.test('any JSON document is flattened to its leaves, on one line or indented', { skip }, async (t) => {
  const key = fc.stringMatching(/^[a-z][a-z0-9_-]{0,8}$/);
  // Printable ASCII, line ends and backslashes: what a seed holds.
  const leaf = fc.oneof(
    fc.integer().map(String),
    fc.string({ unit: fc.constantFrom(...'aB1 :#-{}[],\'"\\\n|>') }),
  );
  const document = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 3 }, leaf, fc.array(tie('value'), { maxLength: 3 }), tie('map')),
    map: fc.dictionary(key, tie('value'), { maxKeys: 4, minKeys: 1, noNullPrototype: true }),
  })).map;
  const flattens = fc.property(document, fc.constantFrom(0, 2), (value, indent) => {
    deepEqual(flatten(JSON.stringify(value, null, indent)), { status: 0, lines: leaves('', value) });
  });
  t.doesNotThrow(() => fc.assert(flattens, { numRuns: RUNS }));
});

function flatten(text: string): { status: number | null; lines: string[] } {
  const result = spawnSync('busybox', ['awk', '-f', PROGRAM], {
    input: text,
    encoding: 'utf8',
  });
  return {
    status: result.status,
    lines: result.stdout === '' ? [] : result.stdout.replace(/\n$/, '').split('\n'),
  };
}

function leaves(path: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null) {
    return [`${path}\t${String(value).replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`];
  }
  return Object.entries(value).flatMap(([key, inner]) => leaves(path === '' ? key : `${path}/${key}`, inner));
}
