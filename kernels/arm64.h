/* Micro-kernels for arm64 with the dot product, included by one file for each instruction set. That file
   defines ISA, the interface's name. It may define MMLA, for tiles that multiply 2 x 8 by 8 x 2 matrices (i8mm). */
#include "common.h"
#include "panel.h"
#include <arm_neon.h>

/* Keeps a sum in its register and later loads after it. Otherwise, gcc loads too early and runs out of registers. */
#define PIN(v) __asm__("" : "+w"(v) : : "memory")
enum { QUARTERS = PANEL / 4 };

INLINE int8x16_t low_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15))); }
INLINE int8x16_t high_nibbles(uint8x16_t v) { return vreinterpretq_s8_u8(vshrq_n_u8(v, 4)); }
INLINE float32x4_t scales4(const uint8_t *p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

INLINE void quantize_block(const float *x, int factor, Activations *out) {
  float32x4_t v[8];
  uint32x4_t most = vdupq_n_u32(0);
  UNROLL for (int i = 0; i < 8; i++) {
    v[i] = vld1q_f32(x + 4 * i);
    /* Magnitudes have the same order as integers and as floats, and NaN is the largest. */
    most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(v[i]), vdupq_n_u32(0x7fffffff)));
  }
  uint32_t bits = vmaxvq_u32(most);
  float limit;
  memcpy(&limit, &bits, sizeof limit);
  /* For a smaller limit, 127 / limit would be infinite, so the block is set to zero. */
  const float32x4_t inverse = vdupq_n_f32(limit > 4e-37f ? 127.0f / limit : 0.0f);
  int16x4_t q[8];
  int16x8_t sums = vdupq_n_s16(0);
  UNROLL for (int i = 0; i < 8; i++) q[i] = vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(v[i], inverse)));
  UNROLL for (int i = 0; i < 8; i += 2) {
    int16x8_t pair = vcombine_s16(q[i], q[i + 1]);
    sums = vaddq_s16(sums, pair);
    vst1_s8(out->q + 4 * i, vqmovn_s16(pair));
  }
  out->bias = factor * vaddlvq_s16(sums);
  /* Infinity and NaN make the block's scale NaN, and thus every product. */
  out->scale = limit < __builtin_inff() ? limit > 4e-37f ? limit / 127.0f : 0.0f : __builtin_nanf("");
}

/* Returns `sum` plus a block's product in floats, from integer sums of 4 columns, their zero points and both scales. */
INLINE float32x4_t add_block(int32x4_t total, int has_zeros, int32x4_t zeros, float32x4_t scales, const Activations *a,
                             float32x4_t sum) {
  total = has_zeros ? vmlaq_n_s32(total, zeros, a->bias) : vaddq_s32(total, vdupq_n_s32(a->bias));
  return vfmaq_f32(sum, vcvtq_f32_s32(total), vmulq_n_f32(scales, a->scale));
}

/* Adds the products of 32 bytes of a plane with every row. The bytes hold k = 4 i .. 4 i + 3 and the same + 16 of 8
   columns. */
#define STREAM_STEP(i) \
  for (int h = 0; h < 2; h++) { \
    uint8x16_t v = vld1q_u8(plane + 32 * (i) + 16 * h); \
    int8x16_t l = low_nibbles(v), u = high_nibbles(v); \
    UNROLL for (int r = 0; r < rows; r++) { \
      total[r][h] = vdotq_laneq_s32(vdotq_laneq_s32(total[r][h], l, q[r][0], i), u, q[r][1], i); \
      PIN(total[r][h]); \
    } \
  }

/* Computes 1 to 4 rows x 8 columns straight from the packed weights, which are read once and in order. For 8-bit
   weights, the plane of high nibbles is added up first, and its sum times 16 is where the low nibbles start. */
INLINE void stream(const int rows, const int planes, const int has_zeros, int64_t count, const uint8_t *w,
                   const Activations *const *x, float *out) {
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  const Activations *a[STREAMED_ROWS];
  float32x4_t sum[STREAMED_ROWS][2];
  for (int r = 0; r < rows; r++) a[r] = x[r], sum[r][0] = sum[r][1] = vdupq_n_f32(0);
  for (int64_t s = 0; s < count; s++, w += size) {
    const uint8_t *scales = w + BLOCKS * block, *zeros = scales + BLOCKS * SCALE_BYTES;
    prefetch(w + AHEAD, size);
    for (int b = 0; b < BLOCKS; b++) {
      int32x4_t total[STREAMED_ROWS][2];
      int8x16_t q[STREAMED_ROWS][2];
      UNROLL for (int r = 0; r < rows; r++) {
        total[r][0] = total[r][1] = vdupq_n_s32(0);
        q[r][0] = vld1q_s8(a[r]->q), q[r][1] = vld1q_s8(a[r]->q + 16);
      }
      UNROLL for (int p = planes - 1; p >= 0; p--) {
        const uint8_t *plane = w + (size_t)b * block + (size_t)p * PLANE_BYTES;
        STREAM_STEP(0)
        STREAM_STEP(1)
        STREAM_STEP(2)
        STREAM_STEP(3)
        if (p)
          UNROLL for (int r = 0; r < rows; r++)
            for (int h = 0; h < 2; h++) total[r][h] = vshlq_n_s32(total[r][h], 4);
      }
      uint16x8_t wide = has_zeros ? vmovl_u8(vld1_u8(zeros + b * ZERO_BYTES)) : vdupq_n_u16(0);
      int32x4_t z[2] = {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))),
                        vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(wide)))};
      for (int h = 0; h < 2; h++) {
        float32x4_t scale = scales4(scales + b * SCALE_BYTES + 8 * h);
        UNROLL for (int r = 0; r < rows; r++) sum[r][h] = add_block(total[r][h], has_zeros, z[h], scale, a[r], sum[r][h]);
      }
      UNROLL for (int r = 0; r < rows; r++) a[r]++;
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < 2; h++) vst1q_f32(out + r * PANEL + 4 * h, sum[r][h]);
}

/* Stores two vectors of 4 columns x 4 k at places `at` and `at` + 1 of a panel's 64-byte steps. The second vector
   has the next 4 k. The dot product needs the vectors unchanged, MMLA the 8 k of a column side by side. */
INLINE void put(uint8_t *to, int at, int half, int h, int8x16_t first, int8x16_t second) {
#ifdef MMLA
  int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
  int8_t *place = (int8_t *)to + at * 64 + half * 64 + h * 32;
  vst1q_s8(place, vreinterpretq_s8_s32(vzip1q_s32(a, b)));
  vst1q_s8(place + 16, vreinterpretq_s8_s32(vzip2q_s32(a, b)));
#else
  int8_t *place = (int8_t *)to + at * 64 + half * 32 + h * 16;
  vst1q_s8(place, first);
  vst1q_s8(place + 64, second);
#endif
}

INLINE void unpack(const int planes, const int has_zeros, int64_t count, const uint8_t *w, int half, Panel *panel) {
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  for (int64_t s = 0; s < count; s++, w += size)
    for (int b = 0; b < BLOCKS; b++) {
      int64_t kb = s * BLOCKS + b;
      for (int p = 0; p < planes; p++) {
        uint8_t *to = panel->q + (kb * planes + p) * 512;
        const uint8_t *plane = w + (size_t)b * block + (size_t)p * PLANE_BYTES;
        UNROLL for (int i = 0; i < 4; i += 2)
          for (int h = 0; h < 2; h++) {
            uint8x16_t first = vld1q_u8(plane + 32 * i + 16 * h), second = vld1q_u8(plane + 32 * i + 32 + 16 * h);
            put(to, i, half, h, low_nibbles(first), low_nibbles(second));
            put(to, i + 4, half, h, high_nibbles(first), high_nibbles(second));
          }
      }
      const uint8_t *scales = w + BLOCKS * block + b * SCALE_BYTES, *zeros = w + BLOCKS * (block + SCALE_BYTES);
      float *scale = panel->scales + kb * PANEL + half * GROUP;
      for (int h = 0; h < 2; h++) vst1q_f32(scale + 4 * h, scales4(scales + 8 * h));
      if (has_zeros)
        for (int n = 0; n < GROUP; n++) panel->zeros[kb * PANEL + half * GROUP + n] = zeros[b * ZERO_BYTES + n];
    }
}

/* Adds the products of a block's plane to total[rows][16 columns]. */
#ifdef MMLA
INLINE void add_plane(const int rows, const uint8_t *plane, const Activations *const *a,
                      int32x4_t total[TILE_ROWS][QUARTERS]) {
  const int pairs = (rows + 1) / 2;
  int32x4_t square[TILE_ROWS / 2][PANEL / 2]; /* of 2 rows x 2 columns, row by row */
  UNROLL for (int r = 0; r < pairs; r++)
    UNROLL for (int c = 0; c < QUARTERS; c++) {
      int64x2_t one = vreinterpretq_s64_s32(total[2 * r][c]), two = vreinterpretq_s64_s32(total[2 * r + 1][c]);
      square[r][2 * c] = vreinterpretq_s32_s64(vzip1q_s64(one, two));
      square[r][2 * c + 1] = vreinterpretq_s32_s64(vzip2q_s64(one, two));
    }
  UNROLL for (int k = 0; k < BLOCK; k += 8) {
    int8x16_t q[TILE_ROWS / 2];
    UNROLL for (int r = 0; r < pairs; r++) {
      const Activations *next = 2 * r + 1 < rows ? a[2 * r + 1] : a[2 * r]; /* a pair may have one row */
      q[r] = vcombine_s8(vld1_s8(a[2 * r]->q + k), vld1_s8(next->q + k));
    }
    UNROLL for (int c = 0; c < PANEL / 2; c++) {
      int8x16_t w = vld1q_s8((const int8_t *)plane + 16 * k + 16 * c);
      UNROLL for (int r = 0; r < pairs; r++) {
        square[r][c] = vmmlaq_s32(square[r][c], q[r], w);
        PIN(square[r][c]);
      }
    }
  }
  UNROLL for (int r = 0; r < pairs; r++)
    UNROLL for (int c = 0; c < QUARTERS; c++) {
      int64x2_t left = vreinterpretq_s64_s32(square[r][2 * c]), right = vreinterpretq_s64_s32(square[r][2 * c + 1]);
      total[2 * r][c] = vreinterpretq_s32_s64(vzip1q_s64(left, right));
      total[2 * r + 1][c] = vreinterpretq_s32_s64(vzip2q_s64(left, right));
    }
}
#else
#define TILE_STEP(lane) \
  UNROLL for (int c = 0; c < QUARTERS; c++) { \
    int8x16_t w = vld1q_s8((const int8_t *)plane + 256 * half + 64 * (lane) + 16 * c); \
    UNROLL for (int r = 0; r < rows; r++) { \
      total[r][c] = vdotq_laneq_s32(total[r][c], w, q[r], lane); \
      PIN(total[r][c]); \
    } \
  }

INLINE void add_plane(const int rows, const uint8_t *plane, const Activations *const *a,
                      int32x4_t total[TILE_ROWS][QUARTERS]) {
  for (int half = 0; half < 2; half++) {
    int8x16_t q[TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) q[r] = vld1q_s8(a[r]->q + 16 * half);
    TILE_STEP(0)
    TILE_STEP(1)
    TILE_STEP(2)
    TILE_STEP(3)
  }
}
#endif

/* Adds the products of `rows` rows with `blocks` blocks of a panel to out[rows][16]. */
INLINE void tile(const int rows, const int planes, const int has_zeros, int blocks, const Panel *panel,
                 const Activations *const *x, int64_t first, float *out) {
  const Activations *a[TILE_ROWS];
  for (int r = 0; r < rows; r++) a[r] = x[r] + first;
  for (int kb = 0; kb < blocks; kb++) {
    int32x4_t total[TILE_ROWS][QUARTERS];
    UNROLL for (int r = 0; r < TILE_ROWS; r++)
      UNROLL for (int c = 0; c < QUARTERS; c++) total[r][c] = vdupq_n_s32(0);
    for (int p = planes - 1; p >= 0; p--) {
      add_plane(rows, panel->q + (kb * planes + p) * 512, a, total);
      if (p)
        UNROLL for (int r = 0; r < rows; r++)
          UNROLL for (int c = 0; c < QUARTERS; c++) total[r][c] = vshlq_n_s32(total[r][c], 4);
    }
    UNROLL for (int c = 0; c < QUARTERS; c++) {
      float32x4_t scales = vld1q_f32(panel->scales + kb * PANEL + 4 * c);
      int32x4_t zeros = has_zeros ? vld1q_s32(panel->zeros + kb * PANEL + 4 * c) : vdupq_n_s32(0);
      UNROLL for (int r = 0; r < rows; r++) {
        float *o = out + r * PANEL + 4 * c;
        vst1q_f32(o, add_block(total[r][c], has_zeros, zeros, scales, a[r], vld1q_f32(o)));
      }
    }
    for (int r = 0; r < rows; r++) a[r]++;
  }
}

#include "multiply.h"

/* e^x by Cephes' polynomial, with a relative error of 2e-7. */
INLINE float32x4_t exp4(float32x4_t x) {
  static const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f};
  x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-87.3f)), vdupq_n_f32(88.3f));
  float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
  x = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
  x = vfmsq_f32(x, n, vdupq_n_f32(-2.12194440e-4f));
  float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
  UNROLL for (int i = 0; i < 5; i++) p = vfmaq_f32(vdupq_n_f32(coefficients[i]), p, x);
  p = vfmaq_f32(vaddq_f32(x, vdupq_n_f32(1)), vmulq_f32(x, x), p);
  int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
  return vmulq_f32(p, vreinterpretq_f32_s32(power));
}

static void gate(const float *gates_and_ups, int rows, float *out) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < GROUP; i += 4) {
      float32x4_t g = vld1q_f32(gates_and_ups + r * PANEL + i), u = vld1q_f32(gates_and_ups + r * PANEL + GROUP + i);
      float32x4_t silu = vdivq_f32(g, vaddq_f32(exp4(vnegq_f32(g)), vdupq_n_f32(1)));
      vst1q_f32(out + r * BLOCK + i, vmulq_f32(u, silu));
    }
}

static void dots(const float *x, const float *w, int64_t k, int count, float *out) {
  for (int i = 0; i < count; i++, w += k) {
    float32x4_t sum[8];
    UNROLL for (int a = 0; a < 8; a++) sum[a] = vdupq_n_f32(0);
    int64_t j = 0;
    for (; j + 32 <= k; j += 32)
      UNROLL for (int a = 0; a < 8; a++) sum[a] = vfmaq_f32(sum[a], vld1q_f32(x + j + 4 * a), vld1q_f32(w + j + 4 * a));
    UNROLL for (int a = 0; a < 4; a++) sum[a] = vaddq_f32(sum[2 * a], sum[2 * a + 1]);
    out[i] = vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
    for (; j < k; j++) out[i] += x[j] * w[j];
  }
}

const Isa ISA = {ISA_NAME, quantize, multiply, gate, dots};
