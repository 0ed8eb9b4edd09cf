/**
 * Instances remember what was last asked for, what is due to be done for them, and whose they are; operations
 * remember who asked.
 *
 * What was stopped is taken for wanted so, all else for wanted running. A guest that had crashed before there were
 * policies stays as it was found: nobody expects it to be started by an upgrade.
 */
export const policies = `
ALTER TABLE instances ADD COLUMN desired TEXT NOT NULL DEFAULT 'running';
ALTER TABLE instances ADD COLUMN stopped_by TEXT;
ALTER TABLE instances ADD COLUMN restarts TEXT;
ALTER TABLE instances ADD COLUMN disowned TEXT;
ALTER TABLE operations ADD COLUMN asked_by TEXT;
UPDATE instances SET desired = 'stopped' WHERE power_state = 'stopped' AND lifecycle <> 'building';
UPDATE instances
  SET restarts = '{"due":null,"timesMs":[],"nextAtMs":null,"givenUp":"it crashed before there were restart policies"}'
  WHERE power_state = 'crashed';
`;
