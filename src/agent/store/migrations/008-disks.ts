/** How guests see volumes, what they get of them at most, and which are kept from being deleted. */
export const disks = `
ALTER TABLE volumes ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE volumes ADD COLUMN device TEXT NOT NULL DEFAULT '{}';
ALTER TABLE volumes ADD COLUMN qos TEXT;
`;
