/* The tile of AVX-512: 12 rows keep both units busy for the latency of `vpdpbusd`, and leave registers to spare. */
enum { TILE_ROWS = 12 };
#define FOR_TILES(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)
#define FOR_TILES_OF(DO, p, z) \
  DO(1, p, z) DO(2, p, z) DO(3, p, z) DO(4, p, z) DO(5, p, z) DO(6, p, z) \
  DO(7, p, z) DO(8, p, z) DO(9, p, z) DO(10, p, z) DO(11, p, z) DO(12, p, z)

INLINE __m512i broadcast512(const int8_t *q) { return _mm512_set1_epi32(*(const int32_t *)(const void *)q); }

INLINE void tile(const int rows, const int planes, const int has_zeros, int blocks, const Panel *panel,
                 const Activations *const *x, int64_t first, float *out) {
  const Activations *a[TILE_ROWS];
  for (int r = 0; r < rows; r++) a[r] = x[r] + first;
  for (int kb = 0; kb < blocks; kb++) {
    __m512i total[2][TILE_ROWS];
    for (int p = 0; p < planes; p++) {
      const uint8_t *q = panel->q + (kb * planes + p) * 512;
      UNROLL for (int g = 0; g < 8; g++) {
        __m512i w = _mm512_load_si512((const void *)(q + g * 64));
        _Pragma("GCC unroll 12") for (int r = 0; r < rows; r++)
          total[p][r] = _mm512_dpbusd_epi32(g ? total[p][r] : _mm512_setzero_si512(), w, broadcast512(a[r]->q + 4 * g));
      }
    }
    const __m512 scales = _mm512_load_ps(panel->scales + kb * PANEL);
    const __m512i zeros = has_zeros ? _mm512_load_si512((const void *)(panel->zeros + kb * PANEL)) : _mm512_setzero_si512();
    _Pragma("GCC unroll 12") for (int r = 0; r < rows; r++) {
      __m512i sum = total[0][r], bias = _mm512_set1_epi32(a[r]->bias);
      if (planes == 2) sum = _mm512_add_epi32(sum, _mm512_slli_epi32(total[1][r], 4));
      if (has_zeros) bias = _mm512_mullo_epi32(zeros, bias);
      __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(a[r]->scale));
      float *o = out + r * PANEL;
      _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, bias)), scale, _mm512_loadu_ps(o)));
      a[r]++;
    }
  }
}
