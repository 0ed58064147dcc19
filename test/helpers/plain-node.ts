/**
 * Command and arguments of a Node that does not load tap's hooks, which a process under --permission may not load. tap
 * adds them to the environment of every child process; `env` removes them again.
 */
export function plainNode(args: readonly string[]): [command: string, args: string[]] {
  return ['env', ['-u', 'NODE_OPTIONS', process.execPath, ...args]];
}
