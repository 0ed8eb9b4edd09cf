import { gzipSync } from 'node:zlib';
import t from 'tap';
import { assertUserData, userDataBytes } from '../../../src/agent/instances/user-data.ts';
import { AgentError } from '../../../src/model/errors.ts';
import fc from '../../property.ts';

function refusal(text: string, encoding: 'text' | 'base64' = 'text'): AgentError | null {
  try {
    assertUserData({ what: 'spec.userData', text, encoding });
    return null;
  } catch (error) {
    if (error instanceof AgentError && error.code === 'INVALID_ARGUMENT') return error;
    throw error;
  }
}

function base64(data: string | Buffer): string {
  return Buffer.from(data).toString('base64');
}

const GOOD: Record<string, string> = {
  nothing: '',
  'cloud-config':
    '#cloud-config\nusers:\n  - name: ops\n    sudo: "ALL=(ALL) NOPASSWD:ALL"\nruncmd:\n  - [ls, -l]\n',
  'cloud-config with CRLF': '#cloud-config\r\npackages: [curl]\r\n',
  'cloud-config with anchors and a merge':
    '#cloud-config\nx-a: &a {shell: /bin/sh}\nusers:\n  - <<: *a\n    name: b\n',
  'an archive': '#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    a: 1\n',
  'a script': '#!/bin/sh\necho "\t: not yaml"\n',
  'an include': '#include\nhttps://example.org/a\n',
  'an include of once': '#include-once\nhttps://example.org/a\n',
  'a boothook': '#cloud-boothook\n#!/bin/sh\n',
  'a part handler': '#part-handler\ndef list_types(): pass\n',
  'a template': '## template: jinja\n#cloud-config\nfqdn: {{ v1.hostname }}\n',
  'a MIME message':
    'Content-Type: multipart/mixed; boundary="x"\nMIME-Version: 1.0\n\n--x\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--x--\n',
  PowerShell: '#ps1_sysnative\nWrite-Host hello\n',
  'a batch file': 'rem cmd\r\necho hello\r\n',
  'PowerShell in tags': '<powershell>\nWrite-Host hello\n</powershell>',
  Ignition: '{"ignition": {"version": "3.4.0"}}',
};

for (const [name, text] of Object.entries(GOOD)) {
  t.test(`user-data that is ${name} passes, as it is and in base64 and packed`, async (t) => {
    t.equal(refusal(text), null);
    t.equal(refusal(base64(text), 'base64'), null);
    if (text !== '') t.equal(refusal(base64(gzipSync(text)), 'base64'), null);
  });
}

const HIDDEN = 'hunter2';
/** Each with a secret in it, its place, and the reason that is given. */
const BAD: [name: string, text: string, place: [number, number] | null, reason: RegExp][] = [
  ['a key that is there twice', `#cloud-config\na: ${HIDDEN}\nb: 2\na: 3\n`, [4, 1], /twice/],
  ['a nested key that is there twice', `#cloud-config\na:\n  b: ${HIDDEN}\n  b: 2\n`, [4, 3], /twice/],
  ['a key that YAML 1.1 reads as another one', '#cloud-config\nyes: 1\ntrue: 2\n', [3, 1], /twice/],
  ['a tab as indentation', `#cloud-config\na:\n\tb: ${HIDDEN}\n`, [3, 1], /tab/],
  ['bad indentation', `#cloud-config\na:\n   b: ${HIDDEN}\n  c: 2\n`, [4, 1], /indentation/],
  ['an open quote', `#cloud-config\na: "${HIDDEN}\n`, [3, 1], /closing quote/],
  ['a text with a colon', `#cloud-config\na: ${HIDDEN}: x\n`, [2, 4], /quote a text/],
  ['a list at its top', `#cloud-config\n- ${HIDDEN}\n`, [2, 1], /no mapping/],
  ['a text at its top', `#cloud-config\n${HIDDEN}\n`, [2, 1], /no mapping/],
  ['a mapping as an archive', `#cloud-config-archive\na: ${HIDDEN}\n`, [2, 1], /no list/],
  ['nothing but comments', `#cloud-config\n# ${HIDDEN}\n`, [1, 1], /nothing but comments/],
  ['two documents', `#cloud-config\na: 1\n---\nb: ${HIDDEN}\n`, [3, 1], /second document/],
  ['a tag that runs code', `#cloud-config\na: !!python/object/apply:os.system [${HIDDEN}]\n`, [2, 4], /tag/],
  ['an alias of nothing', `#cloud-config\na: *${HIDDEN}\n`, [2, 4], /nothing before it/],
  ['an alias within itself', `#cloud-config\na: &a [${HIDDEN}, *a]\n`, [2, 17], /within/],
  ['a control character', `#cloud-config\na: "${HIDDEN}\u0001"\n`, [2, 12], /character/],
  ['deep nesting', `#cloud-config\na: ${'['.repeat(65)}${']'.repeat(65)}\n`, [2, 68], /deeper than 64/],
  [
    'an empty line before its kind',
    `\n#cloud-config\na: ${HIDDEN}\n`,
    [1, 1],
    /later than on its first line/,
  ],
  ['a byte order mark', `\ufeff#cloud-config\na: ${HIDDEN}\n`, [1, 1], /later than on its first line/],
  ['a misspelt kind', `#cloud-confg\na: ${HIDDEN}\n`, [1, 1], /no guest knows its kind/],
  ['a kind with more behind it', `#cloud-config: ${HIDDEN}\na: 1\n`, [1, 1], /no guest knows its kind/],
  ['a bare mapping', `users: ${HIDDEN}\n`, [1, 1], /no guest knows its kind/],
  ['white space alone', '  \n', [1, 1], /no guest knows its kind/],
  ['JSON without its kind', `{"users": "${HIDDEN}"}`, null, /no Ignition/],
  ['broken JSON', `{"ignition": "${HIDDEN}"`, null, /no Ignition/],
  ['MIME without its version', `Content-Type: text/plain\n\n${HIDDEN}`, null, /MIME-Version/],
  [
    'too many bytes',
    `#!/bin/sh\n# ${HIDDEN}\n${'é'.repeat(40_000)}`,
    null,
    /has 80020 bytes, and may have 65536/,
  ],
];

for (const [name, text, place, reason] of BAD) {
  t.test(`user-data with ${name} is refused with its place, and not repeated`, async (t) => {
    const error = refusal(text);
    if (error === null) throw new Error('it passed');
    t.match(error.message, reason);
    if (place === null) t.notMatch(error.message, /line/);
    else t.match(error.details, { path: 'spec.userData', line: place[0], column: place[1] });
    t.notMatch(JSON.stringify(error.toBody()), new RegExp(HIDDEN));
  });
}

t.test('an unknown kind is refused with the list of those there are', async (t) => {
  t.match(refusal('hello\n')?.hint, /#cloud-config; .*#!.*#include.*jinja.*MIME.*#ps1/);
});

t.test('aliases that unpack without end are refused, a few are not', async (t) => {
  const level = (name: string, of: string) => `${name}: &${name} [${Array(9).fill(of).join(', ')}]`;
  const levels = ['x', '*a', '*b', '*c', '*d', '*e'].map((of, index) => level('abcdef'[index] as string, of));
  t.match(refusal(`#cloud-config\n${levels.join('\n')}\n`)?.message, /unpacks to more than 50000 values/);
  t.equal(refusal(`#cloud-config\n${levels.slice(0, 3).join('\n')}\n`), null);
});

t.test('bytes that are neither base64, nor gzip, nor text are refused as what they are not', async (t) => {
  t.match(refusal('not base64!', 'base64')?.message, /no base64/);
  t.match(refusal(`${base64('#!/bin/sh\n')}\n`, 'base64')?.hint, /base64 -w0/);
  t.match(refusal(base64(Buffer.from([0xff, 0xfe])), 'base64')?.message, /neither gzip nor UTF-8/);
  t.match(refusal(base64(Buffer.from([0x1f, 0x8b, 1, 2])), 'base64')?.message, /begins as gzip does/);
  const bomb = gzipSync(Buffer.concat([Buffer.from('#!/bin/sh\n'), Buffer.alloc(50_000_000, '#')]));
  t.match(refusal(base64(bomb), 'base64')?.message, /unpacks to more than 1048576 bytes/);
});

t.test('what is packed is read as strictly', async (t) => {
  const packed = base64(gzipSync('#cloud-config\na: 1\na: 2\n'));
  t.match(refusal(packed, 'base64')?.details, { line: 3, column: 1 });
});

t.test('bytes are counted as the guest gets them', async (t) => {
  t.equal(userDataBytes(undefined), 0);
  t.equal(userDataBytes('é'), 2);
  t.equal(userDataBytes(base64('#!/bin/sh\n'), 'base64'), 10);
});

t.test('whatever text follows the line #cloud-config passes or is refused with a place', async () => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom('\n', '  ', '- ', ': ', '&a ', '*a ', '[', '{', '|\n', '? ', '"'),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const error = refusal(`#cloud-config\n${pieces.join('')}`);
      return error === null || Number.isInteger(error.details?.['line']);
    }),
    { numRuns: 500 },
  );
});
