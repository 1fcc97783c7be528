/* The matrix product of AVX-512: one row is streamed, more rows use tiles of up to 12 rows x 16 columns, straight from the
   packed weights of two groups. 12 rows keep the multipliers busy for the latency of `vpdpbusd`, and their sums of
   integers and of floats fit in the registers. */
enum { TILE_ROWS = 12 };

/* Adds the products of weights and four activations to `sum`. gcc would broadcast with an instruction of its own, which
   costs 5% of the speed, and would turn chains of sums into trees. */
INLINE __m512i add_products(__m512i sum, __m512i weights, const int8_t *q) {
  const int32_t *four = (const void *)q;
#ifdef LFM_SIMDE /* an emulated vector of 512 bits has no register */
  return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(*four));
#else
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(weights), "m"(*four));
  return sum;
#endif
}

INLINE __m512i join(__m256i left, __m256i right) { return _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1); }
INLINE __m512 join_floats(__m256 left, __m256 right) {
  return _mm512_castsi512_ps(join(_mm256_castps_si256(left), _mm256_castps_si256(right)));
}

/* Unpacks 4 + 4 weights of 16 columns: k = 4 i to 4 i + 3 into `first`, and the same k + 16 into `second`. */
INLINE void unpack(int planes, const uint8_t *left, const uint8_t *right, __m512i *first, __m512i *second) {
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i v = join(load(left), load(right));
  *first = _mm512_and_si512(v, nibble), *second = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
  if (planes == 1) return;
  v = join(load(left + PLANE_BYTES), load(right + PLANE_BYTES));
  *first = _mm512_or_si512(*first, _mm512_slli_epi16(_mm512_and_si512(v, nibble), 4));
  *second = _mm512_or_si512(*second, _mm512_andnot_si512(nibble, v));
}

/* Computes 1 to 12 rows x 16 columns. Prefetches the next two groups in the order of their addresses. */
INLINE void tile(const int rows, const int planes, const int has_zeros, int64_t count, const uint8_t *w,
                 const Activations *const *x, float *out) {
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  const uint8_t *left = w, *right = left + (size_t)count * size, *next = right + (size_t)count * size;
  const Activations *a[TILE_ROWS];
  __m512 sum[TILE_ROWS];
  UNROLL for (int r = 0; r < rows; r++) a[r] = x[r], sum[r] = _mm512_setzero_ps();
  for (int64_t s = 0; s < count; s++, left += size, right += size) {
    for (int b = 0; b < BLOCKS; b++) {
      if (b % 2 == 0) prefetch(next, size), next += size;
      const size_t scales = BLOCKS * block + (size_t)b * SCALE_BYTES;
      const size_t zeros = BLOCKS * (block + SCALE_BYTES) + (size_t)b * ZERO_BYTES;
      const __m512 scale = join_floats(scales8(left + scales), scales8(right + scales));
      const __m512i zero = has_zeros ? join(zeros8(left + zeros), zeros8(right + zeros)) : _mm512_setzero_si512();
      __m512i total[TILE_ROWS]; /* starts at the correction for zero points */
      UNROLL for (int r = 0; r < rows; r++) {
        total[r] = _mm512_set1_epi32(a[r]->bias);
        if (has_zeros) total[r] = _mm512_madd_epi16(zero, total[r]); /* a zero point is the low half, the upper half is 0 */
      }
      UNROLL for (int i = 0; i < 4; i++) {
        const size_t at = (size_t)b * block + 32 * (size_t)i;
        __m512i first, second;
        unpack(planes, left + at, right + at, &first, &second);
        UNROLL for (int r = 0; r < rows; r++) total[r] = add_products(total[r], first, a[r]->q + 4 * i);
        UNROLL for (int r = 0; r < rows; r++) total[r] = add_products(total[r], second, a[r]->q + 16 + 4 * i);
      }
      UNROLL for (int r = 0; r < rows; r++) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a[r]->scale));
        sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[r]), both, sum[r]);
        a[r]++;
      }
    }
  }
  UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(out + r * PANEL, sum[r]);
}

#define FOR_ROWS(DO, p, z) \
  DO(1, p, z) DO(2, p, z) DO(3, p, z) DO(4, p, z) DO(5, p, z) DO(6, p, z) \
  DO(7, p, z) DO(8, p, z) DO(9, p, z) DO(10, p, z) DO(11, p, z) DO(12, p, z)
#define TILE(rows, planes, zeros) \
  static void tile_##rows##_##planes##_##zeros(int64_t count, const uint8_t *w, const Activations *const *x, float *out) { \
    tile(rows, planes, zeros, count, w, x, out); \
  }
#define STREAM(planes, zeros) \
  static void stream_##planes##_##zeros(int64_t count, const uint8_t *w, const Activations *const *x, float *out) { \
    stream(1, planes, zeros, count, w, x, out); \
  }
FOR_ROWS(TILE, 1, 0) FOR_ROWS(TILE, 1, 1) FOR_ROWS(TILE, 2, 0) FOR_ROWS(TILE, 2, 1)
STREAM(1, 0) STREAM(1, 1) STREAM(2, 0) STREAM(2, 1)
#define TILE_OF(rows, p, z) tile_##rows##_##p##_##z,
static void (*const tiles[2][2][TILE_ROWS])(int64_t, const uint8_t *, const Activations *const *, float *) = {
  {{FOR_ROWS(TILE_OF, 1, 0)}, {FOR_ROWS(TILE_OF, 1, 1)}},
  {{FOR_ROWS(TILE_OF, 2, 0)}, {FOR_ROWS(TILE_OF, 2, 1)}},
};

static void (*const streams[2][2])(int64_t, const uint8_t *, const Activations *const *, float *) = {
  {stream_1_0, stream_1_1},
  {stream_2_0, stream_2_1},
};

static void multiply(const Matrix *w, int64_t group, int rows, const Activations *const *x, float *out) {
  const int p = w->planes - 1, z = w->has_zero_points;
  const size_t stride = group_bytes(w);
  const uint8_t *data = w->data + (size_t)group * stride;
  if (rows == 1) { /* memory is the limit, and one group after the other is read faster than two side by side */
    for (int half = 0; half < 2; half++) streams[p][z](superblocks(w), data + (size_t)half * stride, x, out + half * GROUP);
    return;
  }
  for (int r = 0; r < rows; r += TILE_ROWS) { /* after the first pass the two groups are in the cache */
    int n = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
    tiles[p][z][n - 1](superblocks(w), data, x + r, out + r * PANEL);
  }
}
