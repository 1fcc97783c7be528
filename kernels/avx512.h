/* The matrix product of AVX-512: one row is streamed, more rows use tiles of up to 12 rows x 16 columns, straight from the
   packed weights of two groups. 12 rows keep the multipliers busy for the latency of `vpdpbusd`, and their sums of
   integers and of floats fit in the registers. */
enum { TILE_ROWS = 12 };
#ifdef LFM_UNINLINED
#define UNROLL_ROWS
#else
#define UNROLL_ROWS _Pragma("GCC unroll 12")
#endif

#ifdef LFM_SIMDE /* an emulated vector of 512 bits has no register */
#define PIN512(v)
#else
#define PIN512(v) __asm__("" : "+v"(v))
#endif

INLINE __m512i broadcast512(const int8_t *q) { return _mm512_set1_epi32(*(const int32_t *)(const void *)q); }
INLINE __m512i join(__m256i left, __m256i right) { return _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1); }
INLINE __m512 join_floats(__m256 left, __m256 right) {
  return _mm512_castsi512_ps(join(_mm256_castps_si256(left), _mm256_castps_si256(right)));
}

/* Returns `sum` plus a block's product in floats, from integer sums of 16 columns, their zero points and both scales. */
INLINE __m512 add_block512(__m512i total, int has_zeros, __m512i zeros, __m512 scales, const Activations *a, __m512 sum) {
  __m512i bias = _mm512_set1_epi32(a->bias);
  if (has_zeros) bias = _mm512_madd_epi16(zeros, bias); /* the zero point is the low half, the upper half is 0 */
  __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(a->scale));
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(total, bias)), scale, sum);
}

/* Computes 1 to 12 rows x 16 columns. For 8-bit weights, the plane of high nibbles is added up first, and its sum times
   16 is where the low nibbles start. Prefetches the next two groups in the order of their addresses. */
INLINE void tile(const int rows, const int planes, const int has_zeros, int64_t count, const uint8_t *w,
                 const Activations *const *x, float *out) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const size_t size = superblock_bytes(planes, has_zeros), block = (size_t)planes * PLANE_BYTES;
  const uint8_t *left = w, *right = left + (size_t)count * size, *next = right + (size_t)count * size;
  const Activations *a[TILE_ROWS];
  __m512 sum[TILE_ROWS];
  UNROLL_ROWS for (int r = 0; r < rows; r++) a[r] = x[r], sum[r] = _mm512_setzero_ps();
  for (int64_t s = 0; s < count; s++, left += size, right += size) {
    for (int b = 0; b < BLOCKS; b++) {
      if (b % 2 == 0) prefetch(next, size), next += size;
      __m512i total[TILE_ROWS];
      UNROLL_ROWS for (int r = 0; r < rows; r++) total[r] = _mm512_setzero_si512();
      for (int p = planes - 1; p >= 0; p--) {
        const size_t plane = (size_t)b * block + (size_t)p * PLANE_BYTES;
        UNROLL for (int i = 0; i < 4; i++) {
          __m512i v = join(load(left + plane + 32 * i), load(right + plane + 32 * i));
          __m512i l = _mm512_and_si512(v, nibble), h = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
          UNROLL_ROWS for (int r = 0; r < rows; r++) {
            total[r] = _mm512_dpbusd_epi32(total[r], l, broadcast512(a[r]->q + 4 * i));
            total[r] = _mm512_dpbusd_epi32(total[r], h, broadcast512(a[r]->q + 16 + 4 * i));
            PIN512(total[r]);
          }
        }
        if (p) UNROLL_ROWS for (int r = 0; r < rows; r++) total[r] = _mm512_slli_epi32(total[r], 4);
      }
      const size_t scales = BLOCKS * block + (size_t)b * SCALE_BYTES;
      const size_t zeros = BLOCKS * (block + SCALE_BYTES) + (size_t)b * ZERO_BYTES;
      const __m512 scale = join_floats(scales8(left + scales), scales8(right + scales));
      const __m512i zero = has_zeros ? join(zeros8(left + zeros), zeros8(right + zeros)) : _mm512_setzero_si512();
      UNROLL_ROWS for (int r = 0; r < rows; r++) {
        sum[r] = add_block512(total[r], has_zeros, zero, scale, a[r], sum[r]);
        a[r]++;
      }
    }
  }
  UNROLL_ROWS for (int r = 0; r < rows; r++) _mm512_storeu_ps(out + r * PANEL, sum[r]);
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
