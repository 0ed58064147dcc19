/* What Debian's libstdc++ and libgcc ask of glibc and musl does not have, so that a program for musl runs here: it wants the
 * C++ library of a system with musl, for which there is no package. It takes the name of glibc's loader, which that library
 * asks for too. Only the runtime uses it: the addon asks for nothing but names that musl has. */
#include <stddef.h>
#include <sys/types.h>

char __libc_single_threaded = 0;

struct {
  unsigned vendor, type, subtype, features[1];
} __cpu_model;

int __cpu_indicator_init(void) { return 0; }

/* "Not found": then the tables are searched for as before glibc 2.35. */
int _dl_find_object(void *address, void *result) {
  (void)address, (void)result;
  return -1;
}

/* A thread's objects are not destroyed at its end. */
int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library) {
  (void)destroy, (void)object, (void)library;
  return 0;
}

extern size_t strftime_l(char *, size_t, const char *, const void *, void *);
size_t __strftime_l(char *text, size_t size, const char *format, const void *time, void *locale) {
  return strftime_l(text, size, format, time, locale);
}

extern ssize_t getrandom(void *, size_t, unsigned);
unsigned arc4random(void) {
  unsigned value = 0;
  getrandom(&value, sizeof value, 0);
  return value;
}
