import { createRequire } from 'node:module';

/** The modules of Node that are loaded only where they are needed: loading one takes milliseconds. */
interface Builtins {
  'node:net': typeof import('node:net');
  'node:readline': typeof import('node:readline');
  'node:util': typeof import('node:util');
  'node:zlib': typeof import('node:zlib');
}

/** For code that cannot wait for `import()`. A bundler does not replace `getBuiltinModule`, as it may `createRequire`. */
export function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  // Node 20 has it since 20.16 only.
  const found = process.getBuiltinModule?.(name) ?? createRequire(import.meta.url)(name);
  return found as Builtins[Name];
}
