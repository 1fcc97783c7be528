/* Functions that Python calls through ctypes: the version, the instruction sets, and the kernels on one thread. */
#include "lfm_kernels.h"
#include <stdlib.h>

LFM_API int lfm_version(void) { return LFM_VERSION; }

/* Returns the name of an instruction set by its index in lfm_isas, or NULL after the last one. */
LFM_API const char *lfm_isa_name(int index) { return lfm_isas[index] ? lfm_isas[index]->name : NULL; }
LFM_API int lfm_isa_runs(int index) { return lfm_runs(lfm_isas[index]); }

static void *scratch_of(size_t size) { return aligned_alloc(64, (size + 64) / 64 * 64); }

/* Returns 0, or 1 if memory runs out. */
LFM_API int lfm_run_matmul(int isa, const uint8_t *data, int64_t columns, int64_t depth, int bits, int has_zero_points,
                           const float *x, int64_t rows, const float *bias, float *y) {
  const Matrix w = {data, columns, depth, bits / 4, has_zero_points};
  void *scratch = scratch_of(lfm_matmul_scratch(&w, rows));
  if (!scratch) return 1;
  lfm_matmul(lfm_isas[isa], &w, x, rows, bias, y, scratch, in_turn, NULL);
  free(scratch);
  return 0;
}

LFM_API int lfm_run_experts(int isa, const uint8_t *up, const uint8_t *down, const float *up_bias,
                            const float *down_bias, int experts, int chosen, int64_t hidden, int64_t inner, int bits,
                            int up_zeros, int down_zeros, int gated, const float *x, const float *logits, int64_t rows,
                            float *y) {
  const Experts e = {{up, (inner + BLOCK - 1) / BLOCK * BLOCK * 2, hidden, bits / 4, up_zeros},
                     {down, hidden, inner, bits / 4, down_zeros},
                     experts, chosen, hidden, inner, up_bias, down_bias, gated};
  void *scratch = scratch_of(lfm_experts_scratch(&e, rows));
  if (!scratch) return 1;
  lfm_experts(lfm_isas[isa], &e, x, logits, rows, y, scratch, in_turn, NULL);
  free(scratch);
  return 0;
}

LFM_API void lfm_run_router(int isa, const float *weights, const float *bias, int experts, int chosen, int64_t hidden,
                            const float *x, int64_t rows, float *y) {
  const Router r = {weights, bias, experts, chosen, hidden};
  lfm_route(lfm_isas[isa], &r, x, rows, y, in_turn, NULL);
}
