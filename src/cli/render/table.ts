/**
 * Tables and fields for people: aligned, header in upper case, one row a line whatever the cells hold.
 */
import { type Paint, type Tone, toneOf } from './style.ts';
import { clean, padEnd, padStart, widthOf } from './text.ts';

/** Longest cell, in characters; only the last column may be longer. */
const CELL_LIMIT = 60;
const GAP = '  ';

/** What a renderer needs to know besides the data. */
export interface Look {
  paint: Paint;
  nowMs: number;
}

export interface Column<T> {
  title: string;
  value: (row: T, look: Look) => string | number;
  align?: 'right';
  /** Coloured by the meaning of its word. */
  state?: true;
}

interface Cell {
  text: string;
  tone: Tone | undefined;
}

export function table<T>(columns: readonly Column<T>[], rows: readonly T[], look: Look): string {
  const header = columns.map(({ title }): Cell => ({ text: title, tone: 'strong' }));
  const cells = rows.map((row) =>
    columns.map((column, at) => cellOf(column, row, look, at === columns.length - 1)),
  );
  const widths = columns.map((_, at) =>
    Math.max(...[header, ...cells].map((line) => widthOf(line[at]?.text ?? ''))),
  );
  return [header, ...cells].map((line) => renderLine(line, columns, widths, look.paint)).join('');
}

/** A name and its value; `state` where the value's first line is coloured by the meaning of its word. */
export type Field = readonly [name: string, value: string | number | readonly string[], is?: 'state'];

/** `Name:  value` lines, aligned. A list of values continues below the first. */
export function fields(all: readonly Field[], look: Look): string {
  const width = Math.max(...all.map(([name]) => widthOf(name))) + 1;
  return all.flatMap((field) => fieldLines(field, width, look)).join('');
}

function fieldLines([name, value, is]: Field, width: number, { paint }: Look): string[] {
  const values = typeof value === 'object' ? value : [String(value)];
  return (values.length === 0 ? ['-'] : values).map((one, at) => {
    const text = clean(one);
    const label = at === 0 ? `${name}:` : '';
    return `${padEnd(label, width)}${GAP}${paint(text, is && toneOf(text))}\n`;
  });
}

/** Text moved to the right, for a table inside fields. */
export function indent(text: string): string {
  return text.replace(/^(?=.)/gm, GAP);
}

function cellOf<T>(column: Column<T>, row: T, look: Look, last: boolean): Cell {
  const value = column.value(row, look);
  const text = clean(typeof value === 'number' ? String(value) : value, last ? undefined : CELL_LIMIT) || '-';
  return { text, tone: column.state ? toneOf(text) : undefined };
}

function renderLine<T>(cells: Cell[], columns: readonly Column<T>[], widths: number[], paint: Paint): string {
  const parts = cells.map((cell, at) => {
    const pad = padding(columns[at], at === cells.length - 1, widths[at] ?? 0);
    return pad(cell.text).replace(cell.text, () => paint(cell.text, cell.tone));
  });
  return `${parts.join(GAP)}\n`;
}

function padding<T>(column: Column<T> | undefined, last: boolean, width: number): (text: string) => string {
  if (column?.align === 'right') return (text) => padStart(text, width);
  return last ? (text) => text : (text) => padEnd(text, width);
}
