/* One matrix product: activations are quantized once, then units of 64 columns are computed side by side. */
#include "lfm_kernels.h"
#include <string.h>

enum { UNIT = 64, QUANTIZED_ALONE = 16 /* rows: fewer rows are quantized in less time than threads need to wake up */ };

typedef struct {
  const Isa *isa;
  const Matrix *w;
  const float *x, *bias;
  float *y;
  int64_t rows, blocks;
  Activations *quantized;
} Job;

size_t lfm_matmul_scratch(const Matrix *w, int64_t rows) {
  return (size_t)(rows * superblocks(w) * BLOCKS) * sizeof(Activations);
}

static void quantize_row(void *opaque, size_t row) {
  const Job *j = opaque;
  const int64_t depth = j->w->depth;
  j->isa->quantize(j->x + (int64_t)row * depth, depth, j->blocks, bias_factor(j->w),
                   j->quantized + (int64_t)row * j->blocks);
}

static void compute_unit(void *opaque, size_t unit) {
  const Job *j = opaque;
  const int64_t columns = j->w->columns, first = (int64_t)unit * UNIT;
  const int64_t end = columns < first + UNIT ? columns : first + UNIT;
  const Activations *x[MAX_ROWS];
  float out[MAX_ROWS * PANEL] __attribute__((aligned(64)));
  for (int64_t m = 0; m < j->rows; m += MAX_ROWS) {
    int rows = j->rows - m < MAX_ROWS ? (int)(j->rows - m) : MAX_ROWS;
    for (int r = 0; r < rows; r++) x[r] = j->quantized + (m + r) * j->blocks;
    for (int64_t n = first; n < end; n += PANEL) {
      int64_t width = end - n < PANEL ? end - n : PANEL;
      j->isa->multiply(j->w, n / GROUP, rows, x, out);
      for (int r = 0; r < rows; r++) {
        float *to = j->y + (m + r) * columns + n, *from = out + r * PANEL;
        if (j->bias)
          for (int64_t i = 0; i < width; i++) from[i] += j->bias[n + i];
        if (width == PANEL)
          memcpy(to, from, PANEL * sizeof *to); /* a constant size takes no call */
        else
          memcpy(to, from, (size_t)width * sizeof *to);
      }
    }
  }
}

void lfm_matmul(const Isa *isa, const Matrix *w, const float *x, int64_t rows, const float *bias, float *y,
                void *scratch, Parallel parallel, void *context) {
  Job job = {isa, w, x, bias, y, rows, superblocks(w) * BLOCKS, scratch};
  (rows < QUANTIZED_ALONE ? in_turn : parallel)(context, quantize_row, (size_t)rows, &job);
  parallel(context, compute_unit, (size_t)((w->columns + UNIT - 1) / UNIT), &job);
}
