/** Operations that have not ended are few, and looked for by their state; the others are in no index but those of their names. */
export const openOperations = `
DROP INDEX operations_by_creation;
DROP INDEX operations_by_state;
CREATE INDEX operations_open ON operations (state) WHERE state IN ('pending', 'running', 'undoing');
`;
