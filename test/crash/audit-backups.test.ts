import t from 'tap';
import { auditBackups, type BackupsQuestion } from './audit-backups.ts';
import type { BackupsView } from './node/protocol.ts';

const NOTHING: BackupsView = { backups: [], damaged: [], unnamed: [], markers: [], uploads: [] };
const ONE: BackupsView = { ...NOTHING, backups: [{ id: 'b', instanceId: 'i' }] };
const DONE = { id: 'o', state: 'succeeded', error: null } as const;
const FAILED = { ...DONE, state: 'failed' } as const;

function audit(question: Partial<BackupsQuestion>) {
  const scenario = { kind: 'backup.delete', backupsLeft: (there: number) => there - 1 } as const;
  return auditBackups({
    scenario,
    operation: DONE,
    before: ONE,
    after: NOTHING,
    wasKilled: false,
    ...question,
  });
}

t.test('a backup that is deleted, and nothing of it left, is right', (t) => {
  t.same(audit({}), { leaks: [], wrongEnds: [] });
  t.same(audit({ operation: FAILED, after: ONE }), { leaks: [], wrongEnds: [] });
  t.end();
});

t.test('a backup that is there and should not be, or the other way round, is a wrong end', (t) => {
  t.same(audit({ after: ONE }).wrongEnds, ['the store has 1 backups, not 0']);
  t.same(audit({ operation: FAILED }).wrongEnds, ['the store has 0 backups, not 1']);
  t.same(audit({ operation: null }).wrongEnds, ['the store has 0 backups, not 1']);
  t.end();
});

t.test('a backup that lacks a chunk is a wrong end, whatever was done', (t) => {
  const after = { ...NOTHING, damaged: ['backup b: it is not there'] };
  t.same(audit({ after }).wrongEnds, ['damaged: backup b: it is not there']);
  t.end();
});

t.test('a chunk that nobody names is a leak once it should have been collected', (t) => {
  const after = { ...NOTHING, unnamed: ['chunks/00/0'] };
  t.same(audit({ after }).leaks, ["nobody's: chunk chunks/00/0"]);
  t.same(audit({ after, scenario: { kind: 'backup.create', backupsLeft: () => 0 } }).leaks, []);
  t.end();
});

t.test(
  'a marker of nobody is a leak, and so is what is half written by a berthd that was not killed',
  (t) => {
    const after = { ...NOTHING, markers: ['writers/b'], uploads: ['x.part'] };
    t.same(audit({ after }).leaks, ["nobody's: marker writers/b", "nobody's: upload x.part"]);
    t.same(audit({ after, wasKilled: true }).leaks, ["nobody's: marker writers/b"]);
    t.same(
      audit({ after: { ...NOTHING, uploads: ['x.part'] }, before: { ...ONE, uploads: ['x.part'] } }).leaks,
      [],
    );
    t.end();
  },
);
