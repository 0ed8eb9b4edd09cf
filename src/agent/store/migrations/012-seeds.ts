/** What a seed was made of stays in the seed alone: rows keep how many bytes there were. */
export const seeds = `
ALTER TABLE instances ADD COLUMN user_data_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN vendor_data_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE instances SET
  user_data_bytes = length(CAST(coalesce(json_extract(spec, '$.userData'), '') AS BLOB)),
  spec = json_remove(spec, '$.userData');
`;
