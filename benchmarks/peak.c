/* Measures the limits of one core: products of 8-bit numbers in registers, and plain reads of memory. */
#include <stddef.h>
#include <stdint.h>

enum { SUMS = 12 };

#if defined(__x86_64__)
#include <immintrin.h>
#define KEEP(v) __asm__ volatile("" : "+x"(v)) /* the compiler must compute it */
#if defined(__AVX512VNNI__)
typedef __m512i Vector;
static Vector add(Vector sum, Vector w, Vector x) { return _mm512_dpbusd_epi32(sum, w, x); }
#else
typedef __m256i Vector;
static Vector add(Vector sum, Vector w, Vector x) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(sum, w, x);
#else
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
#endif
}
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#define KEEP(v) __asm__ volatile("" : "+w"(v))
typedef int8x16_t Vector;
static Vector add(Vector sum, Vector w, Vector x) {
  return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), w, x));
}
#else
#define KEEP(v) __asm__ volatile("" : "+r"(v))
typedef int32_t Vector;
static Vector add(Vector sum, Vector w, Vector x) { return sum + w * x; }
#endif

/* Returns the number of multiplications. */
int64_t multiply(int64_t rounds) {
  Vector sums[SUMS] = {0}, w = {0}, x = {0};
  KEEP(w);
  KEEP(x);
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
    for (int s = 0; s < SUMS; s++) {
      KEEP(w);
      sums[s] = add(sums[s], w, x);
      KEEP(sums[s]);
    }
  }
  return rounds * SUMS * (int64_t)(sizeof(Vector) == sizeof(int32_t) ? 1 : sizeof(Vector));
}

/* `count` is a multiple of 64. */
uint64_t read_memory(const uint64_t *data, int64_t count) {
  uint64_t sums[64] = {0}, sum = 0;
  for (int64_t i = 0; i < count; i += 64)
    for (int j = 0; j < 64; j++) sums[j] += data[i + j];
  for (int j = 0; j < 64; j++) sum += sums[j];
  return sum;
}
