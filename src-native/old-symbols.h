// Functions that glibc moved into libc.so at 2.34, by their older names, which still exist: an addon that is compiled with
// these loads where glibc is older. Only prebuilt addons need this, not one that is compiled where it runs.
#pragma once

#if defined(P2PDMA_OLD_GLIBC)
#if defined(__x86_64__)
#define P2PDMA_OLD(name) __asm__(".symver " #name ", " #name "@GLIBC_2.2.5")
#elif defined(__aarch64__)
#define P2PDMA_OLD(name) __asm__(".symver " #name ", " #name "@GLIBC_2.17")
#endif
#else
#define P2PDMA_OLD(name) static_assert(true, "")
#endif
