/**
 * What is deleted with time is found by when it ended, and what is under way by its node: without a look at all the rest, which is
 * that of a week. An index with few rows costs a commit less than one with all of them.
 */
export const ends = `
CREATE INDEX operations_by_end ON operations (updated_ms) WHERE state IN ('succeeded', 'failed', 'cancelled');
CREATE INDEX commands_by_end ON commands (settled_ms) WHERE settled_ms IS NOT NULL;
CREATE INDEX instances_by_failure ON instances (updated_ms) WHERE phase = 'failed';
CREATE INDEX certificates_by_end ON certificates (not_after);

DROP INDEX commands_by_node_and_state;
DROP INDEX commands_by_state;
CREATE INDEX commands_under_way ON commands (node_id) WHERE state = 'dispatching';
DROP INDEX commands_by_operation;
CREATE INDEX commands_by_operation ON commands (operation_id) WHERE operation_id IS NOT NULL;

DROP INDEX claims_by_node_and_state;
CREATE INDEX claims_by_state ON claims (state, node_id);
`;
