import { ENOTTY, EOPNOTSUPP } from '../base/errno.js';
import { errnoError, type P2pdmaError } from '../base/errors.js';
import type { Backend, End } from './backend.js';
import type { Engine } from './system-options.js';

/** Why the engine `passthrough` cannot do the I/O of this end by NVMe commands; null: it can, or another engine is asked for. */
export function whyNotByCommand(
  { machine }: Pick<Backend, 'machine'>,
  { path, kind }: Pick<End, 'path' | 'kind'>,
  engine: Engine | undefined,
): P2pdmaError | null {
  if (engine !== 'passthrough') return null;
  const asked = { option: 'engine', received: engine };
  if (machine !== null) {
    return errnoError(-EOPNOTSUPP, 'open', path, {
      ...asked,
      what: `the emulated machine '${machine}' has no engine 'passthrough'`,
      hint: (option) =>
        `Leave ${option('engine')} out: an emulated machine has one engine. A single NVMe command can be sent with Target.passthrough().`,
    });
  }
  if (kind === 'namespace') return null;
  return errnoError(-ENOTTY, 'open', path, {
    ...asked,
    what: `the engine 'passthrough' needs an NVMe namespace, and this is not one`,
  });
}
