/** Where the trial keeps what, and what it is called. */
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..', '..');
export const STATE = '/var/lib/berth-try';
export const RUN = '/run/berth-try';
export const CONFIG = join(STATE, 'berthd.toml');
export const TOKEN = join(STATE, 'token');
export const SOCKET = join(RUN, 'berth.sock');
/** What `ip_forward` was before, so that --down can put it back. */
export const FORWARD_BEFORE = join(STATE, 'ip_forward.before');
/** What there was of the kinds that a trial makes, before it began. */
export const TRACES_BEFORE = join(STATE, 'traces.before');
export const FORWARD = '/proc/sys/net/ipv4/ip_forward';

export const SCHEDULER_PORT = 7680;
export const SCHEDULER_URL = `http://127.0.0.1:${SCHEDULER_PORT}`;

export const NAMES = { instance: 'demo', image: 'test', network: 'default' } as const;
export const CIDR = '10.80.0.0/24';
