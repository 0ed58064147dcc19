/** Counters of bytes, by the route that they took. */
import type { KnownWay, PathBytes } from './backend.js';

export function zeroPath(): PathBytes {
  return { internal: 0, peerBus: 0, hostBridge: 0, hostDram: 0 };
}

/** path[way] += bytes: the runtime has a field's place at hand where it is named, and looks it up where it is computed. */
export function addBytes(path: PathBytes, way: KnownWay, bytes: number): void {
  switch (way) {
    case 'internal':
      path.internal += bytes;
      break;
    case 'peerBus':
      path.peerBus += bytes;
      break;
    case 'hostBridge':
      path.hostBridge += bytes;
      break;
    case 'hostDram':
      path.hostDram += bytes;
      break;
    default:
      way satisfies never;
  }
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
