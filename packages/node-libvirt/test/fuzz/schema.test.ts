/** What must hold of the protocol's types themselves, for the decoder's limits to be enough. */
import t from 'tap';
import { TYPES } from '../../src/protocol/schema.gen.ts';
import { depth, leastBytes, type Shape, shapeOf } from './shape.ts';

/** Codecs inside one another: each takes a few frames of the stack, of which there is room for thousands. */
const DEPTH_MAX = 12;

/** The types of elements that stand in lists and vectors of a shape. */
function elementTypes(shape: Shape): Shape[] {
  switch (shape.kind) {
    case 'list':
    case 'vector':
      return [shape.of, ...elementTypes(shape.of)];
    case 'optional':
      return elementTypes(shape.of);
    case 'struct':
      return shape.fields.flatMap(([, field]) => elementTypes(field));
    default:
      return [];
  }
}

t.test('no type holds itself, so decoding cannot recurse without end', (t) => {
  let deepest = 0;
  for (const type of Object.keys(TYPES)) deepest = Math.max(deepest, depth(shapeOf(type)));
  t.ok(deepest > 2 && deepest <= DEPTH_MAX, `at most ${deepest} codecs inside one another`);
  t.end();
});

t.test('every element of a list takes at least four bytes, so a count is bounded by the bytes left', (t) => {
  let lists = 0;
  for (const type of Object.keys(TYPES)) {
    for (const element of elementTypes(shapeOf(type))) {
      lists++;
      if (leastBytes(element) < 4) t.fail(`an element in ${type} may take ${leastBytes(element)} bytes`);
    }
  }
  t.ok(lists > 100, `${lists} lists looked at`);
  t.end();
});
