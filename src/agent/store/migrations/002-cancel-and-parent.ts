/**
 * Operations remember that they were asked to stop, and which operation they are a part of.
 *
 * The plan of an operation that has ended is no longer kept: it may hold a guest's user-data.
 */
export const cancelAndParent = `
ALTER TABLE operations ADD COLUMN cancel_requested_at TEXT;
ALTER TABLE operations ADD COLUMN parent_id TEXT;
CREATE INDEX operations_by_parent ON operations (parent_id) WHERE parent_id IS NOT NULL;
UPDATE operations SET plan = 'null' WHERE ended_at IS NOT NULL;
`;
