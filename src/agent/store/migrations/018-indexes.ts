/** What an instance has is read in its order by the index alone: a sorter for one row takes longer than the rest. */
export const indexes = `
CREATE INDEX volumes_in_order ON volumes (instance_id, position);
DROP INDEX volumes_by_instance;
CREATE INDEX ports_in_order ON ports (instance_id, position);
DROP INDEX ports_by_instance;
`;
