/** Every class of the API, and every topic of a class that is shared out, has a test file that checks it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CLASSES } from '../../tools/api-rules.ts';
import { documentedMethods } from './called.ts';
import { CONNECTION_SHARES, DOMAIN_SHARES, inShare, type Shares } from './shares.ts';

const SHARED: Readonly<Record<string, Shares<string>>> = {
  Connection: CONNECTION_SHARES,
  Domain: DOMAIN_SHARES,
};

const TESTS = join(import.meta.dirname, '..');

/** Calls of `record` in all test files, as they are written: 'Secret', 'Connection: networks'. */
const recorded = readdirSync(TESTS, { encoding: 'utf8', recursive: true })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => readFileSync(join(TESTS, name), 'utf8'))
  .flatMap((text) => [...text.matchAll(/\brecord\((\w+)(?:, [A-Z_]+, '([^']+)')?\)/g)])
  .map(([, className, topic]) => (topic === undefined ? `${className}` : `${className}: ${topic}`));

t.test('there is one record of each class, or of each of its topics', (t) => {
  const wanted = CLASSES.flatMap(({ name }) => {
    const shares = SHARED[name];
    return shares === undefined ? [name] : Object.keys(shares).map((topic) => `${name}: ${topic}`);
  });
  t.strictSame(recorded.toSorted(), wanted.toSorted());
  t.end();
});

t.test('every topic has methods, and every method a topic', (t) => {
  for (const [className, shares] of Object.entries(SHARED)) {
    const methods = documentedMethods(className);
    for (const topic of Object.keys(shares)) {
      t.ok(
        methods.some((method) => inShare(shares, topic, method)),
        `${className}: ${topic}`,
      );
    }
  }
  t.end();
});
