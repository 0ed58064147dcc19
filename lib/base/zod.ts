/**
 * This package imports zod from here, so that the properties that zod puts on globalThis are declared first. It is imported
 * as a namespace (`import * as z`): from `z`, the object, the bundler could not leave out what is not used.
 */
import './quiet-globals.js';

export * from 'zod';
