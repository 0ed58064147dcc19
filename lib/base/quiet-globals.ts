/**
 * zod keeps two properties on globalThis for all its copies in a process, and assigns them with `??=`. Code that lists the
 * globals (such as leak checks of test runners) would report them as unexpected. They are declared here, before zod is loaded,
 * so that they are not enumerable. If another copy of zod was loaded first, its properties stay as they are.
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
