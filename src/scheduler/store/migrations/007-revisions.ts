/**
 * The agent's own word for the inventory that is stored, so that after a start of the scheduler the next one can be told as a
 * difference, too; NULL where it was asked for, and has none.
 */
export const revisions = `
ALTER TABLE nodes ADD COLUMN revision TEXT;
`;
