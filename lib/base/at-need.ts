/** Parts of the library that are loaded when somebody needs them. */

type Part<T> = () => Promise<T>;

const parts: Part<unknown>[] = [];

/**
 * A part that `load` loads, once. From then on it is there within the same turn: an `import()` of its own would ask the
 * runtime's module loader each time, whose hooks (those of a test runner, of a tracer) take their time.
 * @throws what `load` rejects with. Nothing is kept of that: whoever needs the part next loads it again.
 */
export function atNeed<T>(load: Part<T>): Part<T> {
  let loading: Promise<T> | undefined;
  const part = () => {
    loading ??= load().catch((error: unknown) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
  parts.push(part);
  return part;
}

/** For those to whom it matters when a part is loaded: loads every part of the modules that are there. */
export async function loadParts(): Promise<void> {
  await Promise.all(parts.map((part) => part()));
}
