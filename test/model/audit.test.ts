import t from 'tap';
import { type AuditRow, CHAIN_START, follow, hashOf } from '../../src/model/audit.ts';
import fc from '../property.ts';

function chainOf(bodies: readonly string[]): AuditRow[] {
  let before = CHAIN_START.hash;
  return bodies.map((body, i) => {
    const row = { seq: i + 1, at: '2026-01-01T00:00:00.000Z', body };
    before = hashOf(before, row);
    return { ...row, hash: before };
  });
}

const bodies = fc.array(fc.string(), { minLength: 2, maxLength: 20 });

t.test('a chain leads from its start to its last entry', async (t) => {
  fc.assert(
    fc.property(bodies, (texts) => {
      const rows = chainOf(texts);
      const { head, count, fault } = follow(CHAIN_START, rows);
      return fault === null && count === rows.length && head.hash === rows.at(-1)?.hash;
    }),
  );
  t.same(follow(CHAIN_START, []), { head: CHAIN_START, count: 0, fault: null });
});

t.test('an entry that was changed, removed or moved is found, wherever it is', async () => {
  fc.assert(
    fc.property(bodies, fc.nat(), fc.constantFrom('body', 'at', 'hash'), (texts, at, field) => {
      const rows = chainOf(texts);
      const index = at % rows.length;
      const changed = rows.map((row, i) => (i === index ? { ...row, [field]: `${row[field]}x` } : row));
      return follow(CHAIN_START, changed).fault !== null;
    }),
  );
  fc.assert(
    fc.property(bodies, fc.nat(), (texts, at) => {
      const rows = chainOf(texts);
      const index = at % (rows.length - 1);
      const removed = rows.toSpliced(index, 1);
      const moved = rows.with(index, rows[index + 1] as AuditRow).with(index + 1, rows[index] as AuditRow);
      return [removed, moved].every((each) => follow(CHAIN_START, each).fault !== null);
    }),
  );
});

t.test('an entry that was changed and hashed anew breaks off from the next one', async (t) => {
  const rows = chainOf(['a', 'b', 'c']);
  const forged = { ...(rows[1] as AuditRow), body: 'forged' };
  forged.hash = hashOf((rows[0] as AuditRow).hash, forged);
  t.match(follow(CHAIN_START, rows.with(1, forged)).fault, /entry 3/);
});
