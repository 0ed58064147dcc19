import type { CopyPlan } from '../../index.js';
import { CommandError } from '../errors.js';
import { holdings } from '../recognise.js';

/** @throws P2pdmaError the first problem of the plan; ERR_HOLDS_DATA: a destination holds data */
export function refuseHeld({ problems, destinations }: CopyPlan): void {
  const [problem] = problems;
  if (problem !== undefined) throw problem;
  const held = destinations.filter(({ holds }) => holds.length > 0);
  if (held.length === 0) return;
  const words = held.map((end) => `${end.path} holds ${holdings(end.holds)}`).join('; ');
  throw new CommandError(
    'ERR_HOLDS_DATA',
    words,
    'Nothing was written. Pass --force if it may be destroyed.',
  );
}
