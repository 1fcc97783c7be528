/* The common parts of all instruction sets' micro-kernels: how loops are compiled, and quantizing a row. */
#include "lfm_kernels.h"
#include <string.h>

#ifdef LFM_UNINLINED /* for tests: emulated or instrumented code takes minutes to compile if it is inlined */
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#endif
/* Where weights are prefetched to: two groups of a matrix with a depth of 2048 further, in the second cache. */
enum { AHEAD = 18432, CACHE_LINE = 64 };

/* Prefetches into the second cache. Every line counts: one missed line in ten costs half of the speed. */
INLINE void prefetch(const uint8_t *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += CACHE_LINE) __builtin_prefetch(from + at, 0, 2);
}

/* Quantizes 32 activations; each instruction set has its own. */
INLINE void quantize_block(const float *x, int factor, Activations *out);

static void quantize(const float *x, int64_t k, int64_t blocks, int factor, Activations *out) {
  int64_t whole = k / BLOCK;
  for (int64_t b = 0; b < whole; b++) quantize_block(x + b * BLOCK, factor, out + b);
  memset(out + whole, 0, (size_t)(blocks - whole) * sizeof *out);
  if (k % BLOCK) {
    float rest[BLOCK] = {0};
    memcpy(rest, x + whole * BLOCK, (size_t)(k % BLOCK) * sizeof *rest);
    quantize_block(rest, factor, out + whole);
  }
}
