import type { Content, Files } from '../../lib/native/sysfs/tree.js';

/** The files of a captured tree as if they were this machine's. `looked`: called with what was read. */
export function runningTree(
  files: Files,
  looked: (path: readonly string[], content: Content) => void = () => {},
): Files {
  return {
    root: files.root,
    live: true,
    genuine: false,
    peerMemory: files.peerMemory,
    kindOf: (path) => files.kindOf(path),
    entries: (path) => files.entries(path),
    linkTarget: (path) => files.linkTarget(path),
    read: (path, maxBytes, enough) => {
      const content = files.read(path, maxBytes, enough);
      looked(path, content);
      return content;
    },
  };
}
