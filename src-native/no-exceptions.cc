// For prebuilt addons: the functions that the standard library calls when it would throw, and operator new and delete.
// Code compiled without exceptions cannot catch them; the library's own definitions would link the unwinder, which
// needs a newer glibc than the rest and functions that musl does not have.
#include <cstdlib>
#include <new>

#if defined(P2PDMA_PREBUILT) && defined(__GLIBCXX__)

void* operator new(std::size_t size) {
  if (void* p = malloc(size > 0 ? size : 1)) return p;
  abort();
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* p) noexcept { free(p); }
void operator delete[](void* p) noexcept { free(p); }
void operator delete(void* p, std::size_t) noexcept { free(p); }
void operator delete[](void* p, std::size_t) noexcept { free(p); }

extern "C" {
void __cxa_pure_virtual() { abort(); }
// Glibc has this variable from 2.32 on. False means that there may be more than one thread.
char __libc_single_threaded = 0;
}

namespace std {

void __throw_bad_alloc() { abort(); }
void __throw_bad_array_new_length() { abort(); }
void __throw_bad_function_call() { abort(); }
void __throw_length_error(const char*) { abort(); }
void __throw_logic_error(const char*) { abort(); }
void __throw_out_of_range(const char*) { abort(); }
void __throw_out_of_range_fmt(const char*, ...) { abort(); }
void __throw_system_error(int) { abort(); }

}  // namespace std

#endif
