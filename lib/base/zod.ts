/**
 * This package imports zod from here, so that the properties that zod puts on globalThis are declared first. It is imported
 * as a namespace (`import * as z`): from `z`, the object, the bundler could not leave out what is not used. It is zod/mini,
 * whose types have few methods: with those of zod itself, all that they can call is loaded when the package is imported. It
 * also makes no code for a table, which would cost more than all that is parsed with it, and has no messages of its own: those
 * of this package are in demand.ts and in the tables.
 */
import './quiet-globals.js';

export * from 'zod/mini';
