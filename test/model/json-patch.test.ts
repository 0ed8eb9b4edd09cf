/** JSON Patch, as far as Berth speaks it. */
import t from 'tap';
import { diffJson, patchJson } from '../../src/model/json-patch.ts';
import fc from '../property.ts';

const json = fc.jsonValue({ maxDepth: 4 });

t.test('what a patch makes of the one value is the other, and neither is touched', async (t) => {
  fc.assert(
    fc.property(json, json, (before, after) => {
      const [a, b] = [JSON.parse(JSON.stringify(before)), JSON.parse(JSON.stringify(after))];
      const patch = JSON.parse(JSON.stringify(diffJson(a, b)));
      t.strictSame(patchJson(a, patch), b);
      t.strictSame(a, JSON.parse(JSON.stringify(before)));
    }),
    { numRuns: 500 },
  );
});

t.test('equal values have an empty patch, and one number is one operation', async (t) => {
  const value = { a: [{ b: 1 }, null], 'c/d~e': 'x' };
  t.same(diffJson(value, structuredClone(value)), []);
  t.same(diffJson(value, { ...value, a: [{ b: 2 }, null] }), [{ op: 'replace', path: '/a/0/b', value: 2 }]);
  t.same(diffJson(value, { ...value, 'c/d~e': 'y' }), [{ op: 'replace', path: '/c~1d~0e', value: 'y' }]);
});

t.test('the name of the prototype is a key like others, and the prototype stays what it was', async (t) => {
  const [without, having] = [{}, JSON.parse('{"__proto__":{"x":1}}')];
  t.equal(JSON.stringify(patchJson(without, diffJson(without, having))), '{"__proto__":{"x":1}}');
  t.equal(JSON.stringify(patchJson(having, diffJson(having, without))), '{}');
  t.equal(({} as { x?: unknown }).x, undefined);
});

const MISFITS = [
  { op: 'replace', path: '/none', value: 1 },
  { op: 'remove', path: '/none' },
  { op: 'replace', path: '/list/7', value: 1 },
  { op: 'add', path: '/list/7', value: 1 },
  { op: 'add', path: '/list/x', value: 1 },
  { op: 'add', path: '/a/b/c', value: 1 },
  { op: 'add', path: '/__proto__/x', value: 1 },
  { op: 'replace', path: '/__proto__', value: { x: 1 } },
  { op: 'remove', path: '/__proto__' },
  { op: 'replace', path: '/constructor/prototype/x', value: 1 },
  { op: 'add', path: '/list/__proto__/x', value: 1 },
  { op: 'remove', path: '' },
  { op: 'add', path: 'a', value: 1 },
] as const;

for (const misfit of MISFITS) {
  t.test(`a patch that does not fit is refused: ${JSON.stringify(misfit)}`, async (t) => {
    t.throws(() => patchJson({ a: 1, list: [1] }, [misfit]), { code: 'INVALID_ARGUMENT' });
    t.equal(({} as { x?: unknown }).x, undefined);
  });
}
