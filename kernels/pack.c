/* Packs weights as in lfm_kernels.h, from the layout of onnxruntime's MatMulNBits and QMoE. */
#include "lfm_kernels.h"
#include <string.h>

/* A matrix as the graph has it: `weights` is [rows][blocks][block * bits / 8], `scales` float16 [rows][blocks], and
   `zero_points`, which may be NULL, [rows][ceil(blocks * bits / 8)]. Low nibbles come first. */
typedef struct {
  const uint8_t *weights, *zero_points;
  const uint16_t *scales;
  int64_t rows, depth, block;
  int bits;
} Source;

static int64_t source_blocks(const Source *s) { return (s->depth + s->block - 1) / s->block; }

static int value_at(const uint8_t *values, int64_t index, int bits) {
  return bits == 8 ? values[index] : values[index / 2] >> (index % 2 * 4) & 15;
}

/* Reads 32 weights from k on. Weights beyond the matrix get the zero point, so they count as 0. */
static void read_weights(const Source *s, int64_t row, int64_t k, int zero, uint8_t *out) {
  const uint8_t *from = s->weights + row * (source_blocks(s) * s->block * s->bits / 8) + k * s->bits / 8;
  if (s->bits == 8)
    memcpy(out, from, BLOCK);
  else
    for (int i = 0; i < BLOCK / 2; i++) out[2 * i] = from[i] & 15, out[2 * i + 1] = from[i] >> 4;
  for (int64_t i = s->depth - k; i < BLOCK; i++) out[i] = (uint8_t)zero;
}

static int zero_at(const Source *s, int64_t row, int64_t k) {
  if (!s->zero_points) return s->bits == 8 ? 128 : 8;
  return value_at(s->zero_points + row * ((source_blocks(s) * s->bits + 7) / 8), k / s->block, s->bits);
}

/* Packs 32 k of one source row as column n of a block. A negative row means padding, whose scale stays 0. */
static void pack_block(const Source *s, int64_t row, int64_t k, int n, uint8_t *planes, uint8_t *scale, uint8_t *zero) {
  if (row < 0 || k >= s->depth) return;
  int zero_point = zero_at(s, row, k);
  uint8_t weights[BLOCK], plane[BLOCK / 2];
  read_weights(s, row, k, zero_point, weights);
  for (int p = 0; p < s->bits / 4; p++) {
    for (int i = 0; i < BLOCK / 2; i++)
      plane[i] = (uint8_t)((weights[i] >> (4 * p) & 15) | (weights[i + BLOCK / 2] >> (4 * p) & 15) << 4);
    for (int i = 0; i < 4; i++) memcpy(planes + p * PLANE_BYTES + 32 * i + 4 * n, plane + 4 * i, 4);
  }
  memcpy(scale + 2 * n, s->scales + row * source_blocks(s) + k / s->block, sizeof *s->scales);
  if (zero) zero[n] = (uint8_t)zero_point;
}

int64_t lfm_source_row(int64_t column, int64_t rows, int gated) {
  if (!gated) return column < rows ? column : -1;
  int64_t i = column / PANEL * GROUP + column % GROUP, up = column % PANEL / GROUP;
  if (i >= rows / 2) return -1;
  return gated == 1 ? 2 * i + up : up * (rows / 2) + i;
}

/* Packs a matrix of `rows` rows into `columns` columns; columns >= rows. `out` has lfm_packed_bytes bytes. */
LFM_API void lfm_pack(const uint8_t *weights, const uint16_t *scales, const uint8_t *zero_points, int64_t rows,
                      int64_t depth, int64_t block, int bits, int has_zero_points, int gated, int64_t columns,
                      uint8_t *out) {
  const Source source = {weights, zero_points, scales, rows, depth, block, bits};
  const Matrix w = {out, columns, depth, bits / 4, has_zero_points};
  const size_t size = superblock_bytes(w.planes, has_zero_points), planes = (size_t)w.planes * PLANE_BYTES;
  memset(out, 0, (size_t)groups(&w) * group_bytes(&w));
  for (int64_t g = 0; g < groups(&w); g++)
    for (int64_t s = 0; s < superblocks(&w); s++, out += size)
      for (int b = 0; b < BLOCKS; b++) {
        uint8_t *scale = out + BLOCKS * planes + b * SCALE_BYTES;
        uint8_t *zero = has_zero_points ? out + BLOCKS * (planes + SCALE_BYTES) + b * ZERO_BYTES : NULL;
        for (int n = 0; n < GROUP; n++)
          pack_block(&source, lfm_source_row(g * GROUP + n, rows, gated), (s * BLOCKS + b) * BLOCK, n,
                     out + (size_t)b * planes, scale, zero);
      }
}

LFM_API size_t lfm_packed_bytes(int64_t columns, int64_t depth, int bits, int has_zero_points) {
  const Matrix w = {NULL, columns, depth, bits / 4, has_zero_points};
  return (size_t)groups(&w) * group_bytes(&w);
}
