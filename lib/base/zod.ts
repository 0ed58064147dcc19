/** This package imports zod from here, so that the properties that zod puts on globalThis are declared first. */
import './quiet-globals.js';

export { z } from 'zod';
