/**
 * zod keeps two things on globalThis, for all copies of it in a process, and assigns them with `??=`: for whoever lists
 * the globals (leak checks of test runners do) they would come out of nowhere. Declared before zod is loaded, they are
 * not enumerable; a copy of zod that was there first keeps what it made.
 */
for (const name of ['__zod_globalConfig', '__zod_globalRegistry']) {
  if (name in globalThis) continue;
  Object.defineProperty(globalThis, name, {
    value: undefined,
    writable: true,
    configurable: true,
    enumerable: false,
  });
}
