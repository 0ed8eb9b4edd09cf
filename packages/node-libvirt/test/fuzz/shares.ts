/** How the cases of a full run are shared out. A case over a socket costs as much as a thousand decoded bodies. */
export const CASES = {
  decode: 1_000_000,
  frames: 100_000,
  slices: 40_000,
  channel: 20_000,
  session: 3_000,
} as const;

export const CASES_TOTAL = Object.values(CASES).reduce((sum, cases) => sum + cases, 0);
