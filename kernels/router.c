/* An expert block's router: float32 scores. The order of a row's sums does not depend on the other rows. */
#include "lfm_kernels.h"
#include <string.h>

enum { UNIT = 8 /* experts that a thread scores at once */ };
enum { ROWS_ALONE = 32 /* fewer rows are routed in less time than threads need to wake up */ };

typedef struct {
  const Isa *isa;
  const Router *r;
  const float *x;
  float *y;
} Job;

static float log_sigmoid(float x) { return x < 0 ? x - lfm_log(1 + lfm_exp(x)) : -lfm_log(1 + lfm_exp(-x)); }

/* Turns a row's scores into logits, so that their softmax weights the chosen experts by their sigmoids. The chosen
   experts have the largest sigmoids plus bias. Their logits are log(sigmoid). The others' are the lowest float. */
static void route(const Router *r, float *row) {
  float ranked[MAX_EXPERTS];
  uint8_t is_chosen[MAX_EXPERTS] = {0};
  for (int i = 0; i < r->experts; i++) {
    if (row[i] != row[i]) { /* NaN: pass it on */
      for (int j = 0; j < r->experts; j++) row[j] = __builtin_nanf("");
      return;
    }
    ranked[i] = 1 / (1 + lfm_exp(-row[i])) + (r->bias ? r->bias[i] : 0);
  }
  for (int c = 0; c < r->chosen; c++) {
    int best = -1;
    for (int i = 0; i < r->experts; i++)
      if (!is_chosen[i] && (best < 0 || ranked[i] > ranked[best])) best = i;
    is_chosen[best] = 1;
  }
  for (int i = 0; i < r->experts; i++) row[i] = is_chosen[i] ? log_sigmoid(row[i]) : -__FLT_MAX__;
}

static int64_t units(const Router *r) { return (r->experts + UNIT - 1) / UNIT; }

static void score(void *opaque, size_t index) {
  const Job *j = opaque;
  const Router *r = j->r;
  const int64_t row = (int64_t)index / units(r), first = (int64_t)index % units(r) * UNIT, left = r->experts - first;
  j->isa->dots(j->x + row * r->hidden, r->weights + first * r->hidden, r->hidden, left < UNIT ? (int)left : UNIT,
               j->y + row * r->experts + first);
}

static void route_row(void *opaque, size_t row) {
  const Job *j = opaque;
  route(j->r, j->y + row * (size_t)j->r->experts);
}

void lfm_route(const Isa *isa, const Router *r, const float *x, int64_t rows, float *y, Parallel parallel,
               void *context) {
  Job job = {isa, r, x, y};
  parallel(context, score, (size_t)(rows * units(r)), &job);
  if (r->chosen) (rows < ROWS_ALONE ? in_turn : parallel)(context, route_row, (size_t)rows, &job);
}
