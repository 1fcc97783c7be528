/* A block of experts: rows are grouped by expert, so that each expert's weights are read once. */
#include "lfm_kernels.h"
#include <string.h>

enum { UNIT = 64, QUANTIZED_ALONE = 16, ALIGNED = 64 };

/* A row at one of its chosen experts. `weight` is the routing weight of this expert. */
typedef struct {
  int32_t row;
  float weight;
} Place;

typedef struct {
  const Isa *isa;
  const Experts *e;
  const float *x;
  float *y;
  int64_t rows, hidden_blocks, inner_blocks; /* blocks of 32 activations in a row of x and of inner */
  Activations *quantized;                    /* [rows][hidden_blocks] */
  Activations *inner;                        /* [rows * chosen][inner_blocks], in the order of `places` */
  Place *places;                             /* grouped by expert, with ascending rows */
  int64_t *start;                            /* [experts + 1]: where each group begins in places */
  int32_t *active;                           /* experts with rows, ascending */
  int32_t *choice;                           /* [rows][chosen], ascending */
  float *weight;                             /* [rows][chosen] */
} Job;

static size_t aligned(size_t size) { return (size + ALIGNED - 1) / ALIGNED * ALIGNED; }

static int64_t blocks_of(const Matrix *w) { return superblocks(w) * BLOCKS; }

/* Lays out the job's arrays in `scratch`, and returns their size in bytes. With NULL, only returns the size. */
static size_t lay_out(Job *j, char *scratch) {
  const size_t rows = (size_t)j->rows, places = rows * (size_t)j->e->chosen, experts = (size_t)j->e->experts;
  size_t at = 0;
#define ARRAY(name, count) \
  j->name = (void *)(scratch ? scratch + at : NULL); \
  at += aligned((count) * sizeof *j->name)
  ARRAY(quantized, rows * (size_t)j->hidden_blocks);
  ARRAY(inner, places * (size_t)j->inner_blocks);
  ARRAY(places, places);
  ARRAY(start, experts + 1);
  ARRAY(active, experts);
  ARRAY(choice, places);
  ARRAY(weight, places);
#undef ARRAY
  return at;
}

static Job make_job(const Isa *isa, const Experts *e, int64_t rows) {
  Job job = {.isa = isa, .e = e, .rows = rows, .hidden_blocks = blocks_of(&e->up), .inner_blocks = blocks_of(&e->down)};
  return job;
}

size_t lfm_experts_scratch(const Experts *e, int64_t rows) {
  Job job = make_job(NULL, e, rows);
  return lay_out(&job, NULL);
}

/* Writes the `chosen` experts with the largest logits, ascending, and the softmax of these logits. If any logit is NaN,
   every weight is NaN. */
static void choose(const float *logits, int experts, int chosen, int32_t *choice, float *weight) {
  float most = -__builtin_inff(), sum = 0;
  int broken = 0;
  for (int c = 0; c < chosen; c++) choice[c] = -1;
  for (int i = 0; i < experts; i++) {
    broken |= logits[i] != logits[i];
    int c = chosen; /* insert into the choices, largest logit first; experts with equal logits keep their order */
    while (c > 0 && (choice[c - 1] < 0 || logits[i] > logits[choice[c - 1]])) c--;
    if (c == chosen) continue;
    memmove(choice + c + 1, choice + c, (size_t)(chosen - c - 1) * sizeof *choice);
    choice[c] = i;
  }
  for (int c = 1; c < chosen; c++) /* sort by expert, so that the sum over experts has a fixed order */
    for (int d = c; d > 0 && choice[d] < choice[d - 1]; d--) {
      int32_t swapped = choice[d];
      choice[d] = choice[d - 1], choice[d - 1] = swapped;
    }
  for (int c = 0; c < chosen; c++)
    if (logits[choice[c]] > most) most = logits[choice[c]];
  for (int c = 0; c < chosen; c++) sum += weight[c] = lfm_exp(logits[choice[c]] - most);
  for (int c = 0; c < chosen; c++) weight[c] = broken ? __builtin_nanf("") : weight[c] / sum;
}

/* Groups the rows by expert, and returns how many experts have rows. */
static int group_rows(Job *j, const float *logits) {
  const int experts = j->e->experts, chosen = j->e->chosen;
  memset(j->start, 0, (size_t)(experts + 1) * sizeof *j->start);
  for (int64_t r = 0; r < j->rows; r++) {
    choose(logits + r * experts, experts, chosen, j->choice + r * chosen, j->weight + r * chosen);
    for (int c = 0; c < chosen; c++) j->start[j->choice[r * chosen + c] + 1]++;
  }
  int active = 0;
  for (int i = 0; i < experts; i++) {
    if (j->start[i + 1]) j->active[active++] = i;
    j->start[i + 1] += j->start[i];
  }
  for (int64_t r = 0; r < j->rows; r++) /* start[i] moves to the end of its group here, and back to the start below */
    for (int c = 0; c < chosen; c++)
      j->places[j->start[j->choice[r * chosen + c]]++] = (Place){(int32_t)r, j->weight[r * chosen + c]};
  memmove(j->start + 1, j->start, (size_t)experts * sizeof *j->start);
  j->start[0] = 0;
  return active;
}

static void quantize_row(void *opaque, size_t row) {
  const Job *j = opaque;
  const int64_t hidden = j->e->hidden;
  j->isa->quantize(j->x + (int64_t)row * hidden, hidden, j->hidden_blocks, bias_factor(&j->e->up),
                   j->quantized + (int64_t)row * j->hidden_blocks);
}

static Matrix matrix_of(const Matrix *all, int expert) {
  Matrix one = *all;
  one.data += (size_t)expert * (size_t)groups(all) * group_bytes(all);
  return one;
}

static int64_t up_units(const Job *j) { return (j->e->inner + BLOCK - 1) / BLOCK; }

/* Adds an expert's biases to rows of 8 gates and 8 ups, the packed columns from `first` on. */
static void add_up_bias(const Experts *e, int expert, int64_t first, int rows, float *out) {
  if (!e->up_bias) return;
  for (int c = 0; c < PANEL; c++) {
    int64_t row = lfm_source_row(first + c, 2 * e->inner, e->gated);
    float bias = row < 0 ? 0 : e->up_bias[expert * 2 * e->inner + row];
    for (int r = 0; r < rows; r++) out[r * PANEL + c] += bias;
  }
}

/* Computes 32 inner activations of one expert's rows: products with gates and ups, then SwiGLU, quantized. */
static void compute_up(void *opaque, size_t unit) {
  const Job *j = opaque;
  const int64_t per_expert = up_units(j), block = (int64_t)unit % per_expert;
  const int expert = j->active[(int64_t)unit / per_expert];
  const Matrix w = matrix_of(&j->e->up, expert);
  const int64_t left = j->e->inner - block * BLOCK, width = left < BLOCK ? left : BLOCK;
  const int64_t blocks = block + 1 == per_expert ? j->inner_blocks - block : 1; /* the last one zeroes the padding */
  const Activations *x[MAX_ROWS];
  float out[MAX_ROWS * PANEL] __attribute__((aligned(64))), inner[MAX_ROWS * BLOCK] __attribute__((aligned(64)));
  for (int64_t m = j->start[expert]; m < j->start[expert + 1]; m += MAX_ROWS) {
    int64_t rest = j->start[expert + 1] - m;
    int rows = rest < MAX_ROWS ? (int)rest : MAX_ROWS;
    for (int r = 0; r < rows; r++) x[r] = j->quantized + j->places[m + r].row * j->hidden_blocks;
    for (int p = 0; p < BLOCK / GROUP; p++) {
      const int64_t group = (block * BLOCK / GROUP + p) * 2;
      j->isa->multiply(&w, group, rows, x, out);
      add_up_bias(j->e, expert, group * GROUP, rows, out);
      j->isa->gate(out, rows, inner + p * GROUP);
    }
    for (int r = 0; r < rows; r++)
      j->isa->quantize(inner + r * BLOCK, width, blocks, bias_factor(&j->e->down),
                       j->inner + (m + r) * j->inner_blocks + block);
  }
}

/* Computes 64 columns of every row's sum over its experts, which are added in ascending order. */
static void compute_down(void *opaque, size_t unit) {
  const Job *j = opaque;
  const int64_t hidden = j->e->hidden, first = (int64_t)unit * UNIT;
  const int64_t end = hidden < first + UNIT ? hidden : first + UNIT;
  const Activations *x[MAX_ROWS];
  float out[MAX_ROWS * PANEL] __attribute__((aligned(64)));
  for (int64_t r = 0; r < j->rows; r++) memset(j->y + r * hidden + first, 0, (size_t)(end - first) * sizeof *j->y);
  for (int i = 0; i < j->e->experts; i++) {
    const Matrix w = matrix_of(&j->e->down, i);
    for (int64_t m = j->start[i]; m < j->start[i + 1]; m += MAX_ROWS) {
      int64_t rest = j->start[i + 1] - m;
      int rows = rest < MAX_ROWS ? (int)rest : MAX_ROWS;
      for (int r = 0; r < rows; r++) x[r] = j->inner + (m + r) * j->inner_blocks;
      for (int64_t n = first; n < end; n += PANEL) {
        int width = end - n < PANEL ? (int)(end - n) : PANEL;
        const float *bias = j->e->down_bias ? j->e->down_bias + i * hidden + n : NULL;
        j->isa->multiply(&w, n / GROUP, rows, x, out);
        for (int r = 0; r < rows; r++) {
          if (bias)
            for (int c = 0; c < width; c++) out[r * PANEL + c] += bias[c];
          const Place place = j->places[m + r];
          float *y = j->y + place.row * hidden + n;
          for (int c = 0; c < width; c++) y[c] += place.weight * out[r * PANEL + c];
        }
      }
    }
  }
}

void lfm_experts(const Isa *isa, const Experts *e, const float *x, const float *logits, int64_t rows, float *y,
                 void *scratch, Parallel parallel, void *context) {
  Job job = make_job(isa, e, rows);
  job.x = x, job.y = y;
  lay_out(&job, scratch);
  int active = group_rows(&job, logits);
  (rows < QUANTIZED_ALONE ? in_turn : parallel)(context, quantize_row, (size_t)rows, &job);
  parallel(context, compute_up, (size_t)(active * up_units(&job)), &job);
  parallel(context, compute_down, (size_t)((e->hidden + UNIT - 1) / UNIT), &job);
}
