/** The shells for which there are completions. It is a module of its own because every command line loads it. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

export type Shell = (typeof SHELLS)[number];
