// What glibc moved into libc.so at 2.34, by the name that it has had before and keeps: an addon that is compiled here
// loads where glibc is older. For prebuilt addons; one that is compiled where it runs needs nothing of the kind.
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
