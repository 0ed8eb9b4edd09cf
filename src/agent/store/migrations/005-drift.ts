/**
 * Instances remember in what their guests have drifted, what the host kept of their definitions when they were
 * defined last, and how often their policy has restored them.
 */
export const drift = `
ALTER TABLE instances ADD COLUMN drift TEXT;
ALTER TABLE instances ADD COLUMN baseline TEXT;
ALTER TABLE instances ADD COLUMN restores TEXT;
`;
