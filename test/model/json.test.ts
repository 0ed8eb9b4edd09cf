/** Reading JSON from outside: depth and strings. */
import t from 'tap';
import { JSON_DEPTH_LIMIT, parseJson } from '../../src/model/json.ts';
import fc from '../property.ts';

function nested(depth: number): string {
  return `${'['.repeat(depth)}${']'.repeat(depth)}`;
}

t.test('what JSON.parse reads, it reads alike', async () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 10 }), (text) => {
      return JSON.stringify(parseJson(text)) === JSON.stringify(JSON.parse(text));
    }),
  );
});

t.test('the limit itself is allowed, one more is not', async (t) => {
  t.ok(parseJson(nested(JSON_DEPTH_LIMIT)));
  t.throws(() => parseJson(nested(JSON_DEPTH_LIMIT + 1)), {
    code: 'INVALID_ARGUMENT',
    message: /deeper than 64/,
  });
  t.throws(() => parseJson(`{"a":${nested(JSON_DEPTH_LIMIT)}}`), /deeper/);
});

t.test('brackets in strings are no depth, whatever quotes and backslashes are around them', async (t) => {
  const brackets = '['.repeat(200);
  for (const text of [brackets, `"${brackets}`, `\\${brackets}`, `\\"${brackets}`, `\\\\"${brackets}\\`]) {
    t.equal(parseJson(JSON.stringify(text)), text);
  }
});

t.test('what is not JSON is refused, also where a string does not end', async (t) => {
  for (const text of ['', '{', '"', '"\\"', '["[', 'undefined', "{'a':1}"]) {
    t.throws(() => parseJson(text), { code: 'INVALID_ARGUMENT', message: 'Not JSON' });
  }
});
