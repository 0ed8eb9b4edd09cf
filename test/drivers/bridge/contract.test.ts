/**
 * The bridge driver keeps the contract of NetworkDriver, on the real kernel.
 */
import t from 'tap';
import { networkContract } from '../contract/network.ts';
import { labLacks, makeBridgeRig } from './lab.ts';

/** Milliseconds for all: thousands of programs are started, slowly where the machine has other work. */
const TIMEOUT_MS = 600_000;

t.setTimeout(TIMEOUT_MS);
const lacking = await labLacks();
if (lacking !== false) t.plan(0, lacking);
else networkContract(t, 'the bridge driver', makeBridgeRig);
