/* The matrix product of AVX2 and AVX-VNNI: more rows than are streamed use an unpacked panel. */
#include "panel.h"

INLINE void unpack(const int planes, const int has_zeros, int64_t count, const uint8_t *w, int half, Panel *panel) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  for (int64_t s = 0; s < count; s++, w += size) {
    prefetch(w + AHEAD, size);
    for (int b = 0; b < BLOCKS; b++) {
      int64_t kb = s * BLOCKS + b;
      for (int p = 0; p < planes; p++) {
        const uint8_t *plane = w + (size_t)b * block + (size_t)p * PLANE_BYTES;
        uint8_t *to = panel->q + (kb * planes + p) * 512 + half * 32;
        UNROLL for (int i = 0; i < 4; i++) {
          __m256i v = load(plane + 32 * i);
          _mm256_store_si256((__m256i *)(void *)(to + i * 64), _mm256_and_si256(v, nibble));
          v = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
          _mm256_store_si256((__m256i *)(void *)(to + (i + 4) * 64), v);
        }
      }
      const uint8_t *scales = w + BLOCKS * block + b * SCALE_BYTES;
      _mm256_store_ps(panel->scales + kb * PANEL + half * GROUP, scales8(scales));
      if (has_zeros) {
        __m256i zeros = zeros8(w + BLOCKS * (block + SCALE_BYTES) + b * ZERO_BYTES);
        _mm256_store_si256((__m256i *)(void *)(panel->zeros + kb * PANEL + half * GROUP), zeros);
      }
    }
  }
}

/* Adds the products of `rows` rows with `blocks` blocks of a panel to out[rows][16]. */
INLINE void tile(const int rows, const int planes, const int has_zeros, int blocks, const Panel *panel,
                 const Activations *const *x, int64_t first, float *out) {
  const Activations *a[TILE_ROWS];
  __m256 sum[TILE_ROWS][2];
  for (int r = 0; r < rows; r++) {
    a[r] = x[r] + first;
    UNROLL for (int h = 0; h < 2; h++) sum[r][h] = _mm256_load_ps(out + r * PANEL + h * GROUP);
  }
  for (int kb = 0; kb < blocks; kb++) {
    __m256i left[2][TILE_ROWS], right[2][TILE_ROWS];
    for (int p = 0; p < planes; p++) {
      const uint8_t *q = panel->q + (kb * planes + p) * 512;
      UNROLL for (int g = 0; g < 8; g++) {
        __m256i b0 = _mm256_load_si256((const __m256i *)(const void *)(q + g * 64));
        __m256i b1 = _mm256_load_si256((const __m256i *)(const void *)(q + g * 64 + 32));
        UNROLL for (int r = 0; r < rows; r++) {
          __m256i v = broadcast4(a[r]->q + 4 * g);
          left[p][r] = g ? next_sum(left[p][r], b0, v) : first_sum(b0, v);
          right[p][r] = g ? next_sum(right[p][r], b1, v) : first_sum(b1, v);
          PIN(left[p][r]);
          PIN(right[p][r]);
        }
      }
    }
    const float *scales = panel->scales + kb * PANEL;
    const __m256i *zeros = (const __m256i *)(const void *)(panel->zeros + kb * PANEL);
    __m256 s0 = _mm256_load_ps(scales), s1 = _mm256_load_ps(scales + GROUP);
    __m256i z0 = has_zeros ? zeros[0] : _mm256_setzero_si256(), z1 = has_zeros ? zeros[1] : z0;
    UNROLL for (int r = 0; r < rows; r++) {
      sum[r][0] = add_block(left[0][r], left[planes - 1][r], planes, has_zeros, z0, s0, a[r], sum[r][0]);
      sum[r][1] = add_block(right[0][r], right[planes - 1][r], planes, has_zeros, z1, s1, a[r], sum[r][1]);
      a[r]++;
    }
  }
  for (int r = 0; r < rows; r++)
    UNROLL for (int h = 0; h < 2; h++) _mm256_store_ps(out + r * PANEL + h * GROUP, sum[r][h]);
}

#include "multiply.h"
