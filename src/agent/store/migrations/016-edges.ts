/**
 * The generation ID of each instance; until it was first taken back to a moment of before, the instance's own id. And
 * the volume that the firmware variables of a snapshot lie with.
 */
export const edges = `
ALTER TABLE instances ADD COLUMN generation_id TEXT NOT NULL DEFAULT '';
UPDATE instances SET generation_id = id;
ALTER TABLE snapshots ADD COLUMN nvram_volume_id TEXT;
`;
