/* Micro-kernels for x86-64 with AVX2, FMA and F16C, included by one file for each instruction set. That file
   defines ISA, the interface's name, and MULTIPLY, the file with the matrix product. It may define DOT, a function like
   `_mm256_dpbusd_epi32`. */
#include "common.h"
#ifdef LFM_SIMDE /* for tests on CPUs without AVX-512 */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#else
#include <immintrin.h>
#endif

INLINE __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE __m256 scales8(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE __m256i zeros8(const uint8_t *p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

INLINE void quantize_block(const float *x, int factor, Activations *out) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256 v[4];
  __m256i most = _mm256_setzero_si256();
  UNROLL for (int i = 0; i < 4; i++) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    /* Magnitudes have the same order as integers and as floats, and NaN is the largest. */
    most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
  }
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  float limit = _mm_cvtss_f32(_mm_castsi128_ps(m));
  /* For a smaller limit, 127 / limit would be infinite, so the block is set to zero. */
  __m256 inverse = _mm256_set1_ps(limit > 4e-37f ? 127.0f / limit : 0.0f);
  __m256i q[4];
  UNROLL for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
  __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256((__m256i *)(void *)out->q, bytes);
  __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  out->bias = factor * _mm_cvtsi128_si32(s);
  /* Infinity and NaN make the block's scale NaN, and thus every product. */
  out->scale = limit < __builtin_inff() ? limit > 4e-37f ? limit / 127.0f : 0.0f : __builtin_nanf("");
}

/* Keeps sums in the order and register written here. Otherwise, compilers reorder the sums and run out of registers. */
#define PIN(v) __asm__("" : "+x"(v))

/* Sums of unsigned weights times signed activations: of 16 products in int16 lanes, or of any number in int32 lanes. */
INLINE __m256i first_sum(__m256i w, __m256i a) {
#ifdef DOT
  return DOT(_mm256_setzero_si256(), w, a);
#else
  return _mm256_maddubs_epi16(w, a);
#endif
}
INLINE __m256i next_sum(__m256i sum, __m256i w, __m256i a) {
#ifdef DOT
  return DOT(sum, w, a);
#else
  return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, a));
#endif
}
INLINE __m256i widened(__m256i sum) {
#ifdef DOT
  return sum;
#else
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
#endif
}

INLINE __m256i broadcast4(const int8_t *q) { return _mm256_set1_epi32(*(const int32_t *)(const void *)q); }

/* Returns `sum` plus a block's product in floats, from integer sums of 8 columns, their zero points and both scales. */
INLINE __m256 add_block(__m256i low, __m256i high, int planes, int has_zeros, __m256i zeros, __m256 scales,
                        const Activations *a, __m256 sum) {
  __m256i total = widened(low);
  if (planes == 2) total = _mm256_add_epi32(total, _mm256_slli_epi32(widened(high), 4));
  __m256i bias = _mm256_set1_epi32(a->bias);
  if (has_zeros) bias = _mm256_madd_epi16(zeros, bias); /* the zero point is the low half, the upper half is 0 */
  __m256 scale = _mm256_mul_ps(scales, _mm256_set1_ps(a->scale));
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(total, bias)), scale, sum);
}

/* Computes 1 to 4 rows x 8 columns straight from the packed weights, which are read once and in order. */
INLINE void stream(const int rows, const int planes, const int has_zeros, int64_t count, const uint8_t *w,
                   const Activations *const *x, float *out) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  const Activations *a[STREAMED_ROWS];
  __m256 sum[STREAMED_ROWS];
  for (int r = 0; r < rows; r++) a[r] = x[r], sum[r] = _mm256_setzero_ps();
  for (int64_t s = 0; s < count; s++, w += size) {
    const uint8_t *scales = w + BLOCKS * block, *zeros = scales + BLOCKS * SCALE_BYTES;
    prefetch(w + AHEAD, size);
    UNROLL for (int b = 0; b < BLOCKS; b++) {
      __m256i total[2][STREAMED_ROWS];
      for (int p = 0; p < planes; p++) {
        const uint8_t *plane = w + (size_t)b * block + (size_t)p * PLANE_BYTES;
        UNROLL for (int i = 0; i < 4; i++) {
          __m256i v = load(plane + 32 * i), l = _mm256_and_si256(v, nibble);
          __m256i h = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
          UNROLL for (int r = 0; r < rows; r++) {
            __m256i v0 = broadcast4(a[r][b].q + 4 * i), v1 = broadcast4(a[r][b].q + 16 + 4 * i);
            total[p][r] = next_sum(i ? next_sum(total[p][r], l, v0) : first_sum(l, v0), h, v1);
            PIN(total[p][r]);
          }
        }
      }
      __m256 scale = scales8(scales + b * SCALE_BYTES);
      __m256i zero = has_zeros ? zeros8(zeros + b * ZERO_BYTES) : _mm256_setzero_si256();
      UNROLL for (int r = 0; r < rows; r++)
        sum[r] = add_block(total[0][r], total[planes - 1][r], planes, has_zeros, zero, scale, &a[r][b], sum[r]);
    }
    for (int r = 0; r < rows; r++) a[r] += BLOCKS;
  }
  for (int r = 0; r < rows; r++) _mm256_storeu_ps(out + r * PANEL, sum[r]);
}

#include MULTIPLY

/* e^x by Cephes' polynomial, with a relative error of 2e-7. */
INLINE __m256 exp8(__m256 x) {
  static const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f};
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.3f)), _mm256_set1_ps(88.3f));
  __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), x);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  UNROLL for (int i = 0; i < 5; i++) p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(coefficients[i]));
  p = _mm256_fmadd_ps(_mm256_mul_ps(x, x), p, _mm256_add_ps(x, _mm256_set1_ps(1)));
  __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

static void gate(const float *gates_and_ups, int rows, float *out) {
  for (int r = 0; r < rows; r++) {
    __m256 g = _mm256_loadu_ps(gates_and_ups + r * PANEL), u = _mm256_loadu_ps(gates_and_ups + r * PANEL + GROUP);
    __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), g));
    __m256 silu = _mm256_div_ps(g, _mm256_add_ps(e, _mm256_set1_ps(1)));
    _mm256_storeu_ps(out + r * BLOCK, _mm256_mul_ps(u, silu));
  }
}

INLINE float sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static void dots(const float *x, const float *w, int64_t k, int count, float *out) {
  for (int i = 0; i < count; i++, w += k) {
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    int64_t j = 0;
    for (; j + 32 <= k; j += 32)
      UNROLL for (int a = 0; a < 4; a++)
        sum[a] = _mm256_fmadd_ps(_mm256_loadu_ps(x + j + 8 * a), _mm256_loadu_ps(w + j + 8 * a), sum[a]);
    out[i] = sum8(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
    for (; j < k; j++) out[i] += x[j] * w[j];
  }
}

const Isa ISA = {ISA_NAME, quantize, multiply, gate, dots};
