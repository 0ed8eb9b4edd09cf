/** How `berth instance show` tells in what a guest has drifted. */
import type { Drift, Remedy } from '../../model/drift.ts';
import type { Instance } from '../../model/instance.ts';
import { indent, type Look } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatAge } from '../render/units.ts';

const REMEDY_WORDS: Record<Remedy, string> = {
  restore: '`berth instance restore` mends it',
  'after-stop': 'goes with the next stop, or can be restored then',
  'by-hand': 'to be mended by hand',
};

/** Nothing for a guest that is as it was defined. */
export function renderDrift({ drift, restores }: Instance, look: Look): string {
  const lines = drift.map((one) => renderOne(one, look));
  const givenUp = restores?.givenUp ?? null;
  if (givenUp !== null) lines.push(`${look.paint('not restored by its policy', 'bad')}: ${clean(givenUp)}\n`);
  return lines.length === 0 ? '' : `Drift:\n${indent(lines.join(''))}`;
}

function renderOne({ kind, detail, since, remedy }: Drift, look: Look): string {
  const head = `${look.paint(clean(kind), 'bad')}, for ${formatAge(since, look.nowMs)}: ${clean(detail)}\n`;
  return head + indent(`${REMEDY_WORDS[remedy]}\n`);
}
