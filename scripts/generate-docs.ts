/**
 * Generates what is said in the model and nowhere else: docs/protocol.md, docs/openrpc.json, docs/schemas/, docs/errors.md,
 * docs/configuration.md, docs/scheduler-openapi.json and systemd/berthd.toml.
 *
 * With --check nothing is written; exit code 1 and the names of the files that differ.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { commentedConfig, configurationPage } from './docs/configuration.ts';
import { errorsPage } from './docs/errors.ts';
import { messageSchemas } from './docs/messages.ts';
import { openRpc } from './docs/openrpc.ts';
import { protocolPage } from './docs/protocol.ts';
import { schedulerOpenApi } from './docs/scheduler.ts';

const root = join(import.meta.dirname, '..');

const pages: Record<string, string> = {
  'docs/protocol.md': protocolPage(),
  'docs/openrpc.json': jsonText(openRpc()),
  ...Object.fromEntries(
    Object.entries(messageSchemas()).map(([name, schema]) => [`docs/schemas/${name}.json`, jsonText(schema)]),
  ),
  'docs/errors.md': errorsPage(),
  'docs/scheduler-openapi.json': jsonText(schedulerOpenApi()),
  'docs/configuration.md': configurationPage(),
  'systemd/berthd.toml': commentedConfig(),
};

function jsonText(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function current(file: string): string | null {
  try {
    return readFileSync(join(root, file), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

const stale = Object.entries(pages).filter(([file, text]) => current(file) !== text);
if (process.argv.includes('--check')) {
  for (const [file] of stale) console.error(`${file} is out of date; run: npm run docs`);
  process.exitCode = stale.length === 0 ? 0 : 1;
} else {
  for (const [file, text] of stale) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
    console.log(`wrote ${file}`);
  }
}
