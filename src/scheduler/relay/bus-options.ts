/** How NATS is reached, as both command lines say it. */
import { InvalidArgumentError, Option } from 'commander';
import type { BusOptions } from './bus.ts';

export function busFlags(): Option[] {
  return [
    new Option('--nats-url <url...>', 'NATS servers that join several gateways, nats:// or tls://').argParser(
      readNatsUrl,
    ),
    new Option('--nats-token-file <path>', 'file with the token for NATS'),
  ];
}

interface BusValues {
  natsUrl?: readonly string[];
  natsTokenFile?: string;
}

export function faultOfBus({ natsUrl, natsTokenFile }: BusValues): string | null {
  return natsUrl === undefined && natsTokenFile !== undefined ? '--nats-token-file needs --nats-url' : null;
}

/** Null where there is no NATS. */
export function busOf({ natsUrl, natsTokenFile }: BusValues, name: string): BusOptions | null {
  return natsUrl === undefined ? null : { urls: natsUrl, tokenFile: natsTokenFile ?? null, name };
}

function readNatsUrl(value: string, before: readonly string[] | undefined): string[] {
  const url = URL.parse(value);
  const isGood = url !== null && /^(nats|tls):$/.test(url.protocol) && url.host !== '' && url.username === '';
  if (isGood) return [...(before ?? []), value];
  throw new InvalidArgumentError('Give nats://HOST:PORT or tls://HOST:PORT; the token goes into a file.');
}
