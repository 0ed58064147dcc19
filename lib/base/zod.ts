/** Where this package gets zod from: so that what it leaves on globalThis is declared first. */
import './quiet-globals.js';

export { z } from 'zod';
