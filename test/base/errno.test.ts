/** Every errno that a filesystem, a block device or a call of this package can end with is named and explained. */
import { constants } from 'node:os';
import t from 'tap';
import * as errno from '../../lib/base/errno.js';
import { ERRNO_NAMES, errnoName } from '../../lib/base/errno.js';
import { ERROR_CODES, errnoError } from '../../lib/base/errors.js';

/** By whom they come; asked of Linux's block layer (blk_errors[]), its filesystems, and open, read, write and their like. */
const CAN_COME = {
  'block layer': [
    ...['EOPNOTSUPP', 'ETIMEDOUT', 'ENOSPC', 'ENOLINK', 'EREMOTEIO', 'EBADE', 'ENODATA', 'EILSEQ', 'ENOMEM'],
    ...[
      'EBUSY',
      'EAGAIN',
      'ENODEV',
      'EREMCHG',
      'ETOOMANYREFS',
      'EOVERFLOW',
      'ETIME',
      'EINVAL',
      'EIO',
      'ENXIO',
    ],
    ...['ENOMEDIUM', 'EMEDIUMTYPE', 'EROFS', 'ENOTBLK'],
  ],
  filesystems: [
    ...['EDQUOT', 'ESTALE', 'EUCLEAN', 'EBADMSG', 'EXDEV', 'EFBIG', 'ENOKEY', 'EKEYEXPIRED', 'EKEYREVOKED'],
    ...[
      'EKEYREJECTED',
      'ENOLCK',
      'EDEADLK',
      'EPROTO',
      'ENAMETOOLONG',
      'ELOOP',
      'EISDIR',
      'ENOTDIR',
      'EEXIST',
    ],
    ...[
      'ENETDOWN',
      'ENETUNREACH',
      'ECONNABORTED',
      'ECONNRESET',
      'ENOBUFS',
      'ENOTCONN',
      'ESHUTDOWN',
      'EHOSTDOWN',
    ],
    ...['ECONNREFUSED', 'EHOSTUNREACH'],
  ],
  calls: [
    ...[
      'EPERM',
      'ENOENT',
      'EINTR',
      'EBADF',
      'EACCES',
      'EFAULT',
      'ENFILE',
      'EMFILE',
      'ENOTTY',
      'ETXTBSY',
      'ESPIPE',
    ],
    ...['EPIPE', 'ERANGE', 'ENOSYS', 'ECANCELED', 'EHWPOISON'],
  ],
};

t.test('the list, pinned', async (t) => {
  const wanted = Object.values(CAN_COME).flat().sort();
  t.same([...ERRNO_NAMES].sort(), wanted);
});

t.test('each has Linux’s number, words of its own in the message, a cause and a remedy', async (t) => {
  const numbers = errno as unknown as Record<string, number>;
  for (const name of ERRNO_NAMES) {
    const number = numbers[name]!;
    if (process.platform === 'linux' && name in constants.errno) {
      t.equal(number, constants.errno[name as keyof typeof constants.errno], name);
    }
    t.equal(errnoName(-number), name);
    const error = errnoError(-number, 'write', '/x', { offset: 512 });
    t.match(error, { code: name, errno: -number, syscall: 'write', path: '/x', offset: 512 });
    t.match(error.message, new RegExp(`^${name}: [a-zA-Z].*, write '/x' at offset 512$`));
    t.notMatch(error.message, /system error/, `${name} has words`);
    const { cause, remedy } = ERROR_CODES[name as keyof typeof ERROR_CODES];
    t.ok(cause.length > 10 && remedy.length > 10, `${name} has advice`);
    t.equal(error.hint, remedy);
  }
});

t.test('a number that has no name here stays readable', async (t) => {
  const error = errnoError(-4095, 'read', '/x');
  t.match(error, { code: 'EIO', errno: -4095, message: "errno 4095: system error 4095, read '/x'" });
});
