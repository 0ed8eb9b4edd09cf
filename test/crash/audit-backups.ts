/**
 * The audit of the object store after an operation on backups: is each of them whole, are there those that should be, and is
 * nothing left of what was being written or removed? Pure.
 */
import type { Findings } from './audit.ts';
import type { BackupsView, JournaledOperation } from './node/protocol.ts';
import type { Scenario } from './scenarios/scenario.ts';

export interface BackupsQuestion {
  scenario: Pick<Scenario, 'kind' | 'backupsLeft'>;
  operation: JournaledOperation | null;
  before: BackupsView;
  after: BackupsView;
  /** Whether berthd was killed: what it was writing is found by its age, a day later. */
  wasKilled: boolean;
}

/** Kinds after which no chunk is left that nobody names: when they begin, all are old enough to go. */
const COLLECTING = ['backup.delete', 'backup.prune'];

export function auditBackups(question: BackupsQuestion): Findings {
  const { scenario, operation, before, after, wasKilled } = question;
  const isDone = operation?.state === 'succeeded';
  const collected = isDone && COLLECTING.includes(scenario.kind) ? after.unnamed : [];
  const uploads = wasKilled ? [] : after.uploads.filter((name) => !before.uploads.includes(name));
  return {
    leaks: [
      ...after.markers.map((key) => `marker ${key}`),
      ...collected.map((key) => `chunk ${key}`),
      ...uploads.map((name) => `upload ${name}`),
    ].map((thing) => `nobody's: ${thing}`),
    wrongEnds: [...after.damaged.map((why) => `damaged: ${why}`), ...countedBackups(question, isDone)],
  };
}

function countedBackups({ scenario, before, after }: BackupsQuestion, isDone: boolean): string[] {
  const there = before.backups.length;
  const wanted = isDone ? (scenario.backupsLeft?.(there) ?? there) : there;
  const found = after.backups.length;
  return found === wanted ? [] : [`the store has ${found} backups, not ${wanted}`];
}
