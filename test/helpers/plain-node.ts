/**
 * Command and arguments of a Node that does not load what tap has its children load, which a process under --permission
 * may not. tap puts it into the environment of whatever is started; env takes it out again.
 */
export function plainNode(args: readonly string[]): [command: string, args: string[]] {
  return ['env', ['-u', 'NODE_OPTIONS', process.execPath, ...args]];
}
