/* The common parts of all instruction sets' micro-kernels: the unpacked panel, and how loops are compiled. */
#include "lfm_kernels.h"
#include <string.h>

#ifdef LFM_UNINLINED /* for tests: emulated or instrumented code takes minutes to compile if it is inlined */
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#endif
enum { STREAMED_ROWS = 4, CHUNK = 16 /* blocks of an unpacked panel: K 512 */, AHEAD = 2048 };

/* 16 columns of CHUNK blocks, with one byte for each nibble, so 8 x 64 bytes per block and plane. */
typedef struct {
  uint8_t q[CHUNK * 2 * 512];
  float scales[CHUNK * PANEL];
  int32_t zeros[CHUNK * PANEL];
} __attribute__((aligned(64))) Panel;
