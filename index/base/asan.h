/* Whether AddressSanitizer watches this build: HAS_ASAN is 1 or 0, with gcc and with clang. */
#ifndef BASE_ASAN_H
#define BASE_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif

#ifndef HAS_ASAN
#define HAS_ASAN 0
#endif

#endif
