/** Counters of bytes, by the route that they took. */
import type { PathBytes } from './backend.js';

export function zeroPath(): PathBytes {
  return { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
}

export function addPath(to: PathBytes, from: PathBytes): void {
  to.internal += from.internal;
  to.peerBus += from.peerBus;
  to.hostBridge += from.hostBridge;
  to.hostDram += from.hostDram;
  if (from.unproven) to.unproven = (to.unproven ?? 0) + from.unproven;
}

export function clearPath(path: PathBytes): void {
  path.internal = path.peerBus = path.hostBridge = path.hostDram = 0;
  if (path.unproven !== undefined) path.unproven = 0;
}
