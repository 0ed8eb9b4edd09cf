/**
 * Every row gets a seal, by which a changed byte in it is found. @see src/sqlite/seals.ts
 */
const TABLES = [
  'meta',
  'images',
  'networks',
  'instances',
  'volumes',
  'ports',
  'allocations',
  'operations',
  'steps',
  'events',
];

export const seals = TABLES.map((table) => `ALTER TABLE ${table} ADD COLUMN seal INTEGER;`).join('\n');
