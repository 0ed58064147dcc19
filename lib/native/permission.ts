/**
 * Node's permission model (--permission) controls node:fs. The addon opens files without node:fs, so the permission is checked
 * here first.
 */
import { resolve } from 'node:path';
import { EACCES } from '../base/errno.js';
import { errnoError } from '../base/errors.js';

/** Available in Node 20 and newer under --permission; TypeScript's declarations for Node 20 do not have it. */
interface Permission {
  has(scope: Scope, path: string): boolean;
}

type Scope = 'fs.read' | 'fs.write';

/** A path that will be written also needs read permission, because a block that is only partly covered is read first. */
function missing(path: string, wanted: { readonly write: boolean }): Scope | null {
  const { permission } = process as { permission?: Permission };
  const scopes: Scope[] = wanted.write ? ['fs.read', 'fs.write'] : ['fs.read'];
  return scopes.find((scope) => permission?.has(scope, resolve(path)) === false) ?? null;
}

export function isPermitted(path: string, wanted: { readonly write: boolean }): boolean {
  return missing(path, wanted) === null;
}

/** @throws P2pdmaError EACCES: this process has no permission for the path. */
export function assertPermitted(path: string, syscall: string, wanted: { readonly write: boolean }): void {
  const scope = missing(path, wanted);
  if (scope === null) return;
  throw errnoError(-EACCES, syscall, path, {
    hint: `This process runs under Node's --permission and was not granted it: start it with --allow-${scope.replace('.', '-')}=${resolve(path)}.`,
  });
}
