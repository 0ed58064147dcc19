/**
 * Sentences that name options. They are written once, with a hole for each name; whoever has other names for the options
 * (the command has --chunk for highWaterMark) fills them in. So nobody reads a sentence to change it.
 *
 *     (option) => `Make ${option('highWaterMark')} smaller.`     Make highWaterMark smaller.     Make --chunk smaller.
 */

/** What an option is called; with a value: how it is given. */
export type Naming = (option: string, value?: string) => string;

export type Sentence = string | ((option: Naming) => string);

/** The names of the library's own tables: `requireP2p`, `provider: none`. */
export const libraryNames: Naming = (option, value) => (value === undefined ? option : `${option}: ${value}`);

let names = libraryNames;

/** The command has its process to itself: what is said in it from here on carries these names. */
export function speakWith(naming: Naming): void {
  names = naming;
}

export function said(sentence: Sentence, naming: Naming = names): string {
  return typeof sentence === 'string' ? sentence : sentence(naming);
}
