/** What the sections of the configuration are made of. */
import { type TObject, type TProperties, Type } from '../../model/schema.ts';

export function section<P extends TProperties>(description: string, properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false, default: {}, description });
}

export const AbsolutePath = (description: string, path: string) =>
  Type.String({
    pattern: '^/[^\\x00-\\x1f]*$',
    maxLength: 1024,
    default: path,
    description: `${description} Absolute path.`,
  });

export const Ratio = (description: string, ratio: number) =>
  Type.Number({ minimum: 0.1, maximum: 64, default: ratio, description });

/** A section that may be given any number of times, as `[[name]]`. */
export function sections<P extends TProperties>(description: string, limit: number, properties: P) {
  return Type.Array(Type.Object(properties, { additionalProperties: false }), {
    default: [],
    maxItems: limit,
    description,
  });
}
