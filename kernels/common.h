/* The common parts of all instruction sets' micro-kernels: how loops are compiled, and quantizing a row. */
#include "lfm_kernels.h"
#include <string.h>

#ifdef LFM_UNINLINED /* for tests: emulated or instrumented code takes minutes to compile if it is inlined */
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__ /* it ignores gcc's pragma, and then keeps sums in memory */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif
#endif

/* Rows that a stream computes at most, and how far ahead weights are prefetched: ten superblocks of 4-bit weights. */
enum { STREAMED_ROWS = 4, AHEAD = 5760, CACHE_LINE = 64 };

/* Prefetches packed weights into the second cache. Without their scales, one line in nine, streaming a row took more
   than three times as long. */
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
