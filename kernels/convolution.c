/* A gated short convolution in float32. The channels are independent of each other. */
#include "lfm_kernels.h"

enum { CHANNELS = 256, VALUES_ALONE = 1 << 11 /* fewer are computed in less time than threads need to wake up */ };

static int64_t blocks_of(const Convolution *c) { return (c->hidden + CHANNELS - 1) / CHANNELS; }

/* Adds up the taps in ascending order, then the bias. The order does not depend on the length. */
static void convolve_token(const Convolution *c, const float (*weight)[CHANNELS], const float *window, const float *gate,
                           const float *bias, int64_t count, float *restrict y) {
  float sum[CHANNELS];
  for (int64_t i = 0; i < count; i++) sum[i] = window[i] * weight[0][i];
  for (int64_t tap = 1; tap < c->taps; tap++)
    for (int64_t i = 0; i < count; i++) sum[i] += window[tap * c->hidden + i] * weight[tap][i];
  if (bias)
    for (int64_t i = 0; i < count; i++) sum[i] += bias[i];
  for (int64_t i = 0; i < count; i++) y[i] = gate[i] * sum[i];
}

/* One sequence's channels `first` to `first` + `count`. `past` is read before `present` is written: both may be the same
   memory. */
static void convolve_block(void *opaque, size_t index) {
  const Convolution *c = opaque;
  const int64_t hidden = c->hidden, sequence = (int64_t)index / blocks_of(c);
  const int64_t first = (int64_t)index % blocks_of(c) * CHANNELS;
  const int64_t count = hidden - first < CHANNELS ? hidden - first : CHANNELS;
  const float *past = c->past + (sequence * hidden + first) * c->columns;
  float *present = c->present + (sequence * hidden + first) * c->columns;
  float *window = c->trace + sequence * (c->columns + c->length) * hidden + first;
  float weight[MAX_TAPS][CHANNELS];
  for (int64_t tap = 0; tap < c->taps; tap++)
    for (int64_t i = 0; i < count; i++) weight[tap][i] = c->weight[(first + i) * c->taps + tap];
  for (int64_t column = 0; column < c->columns; column++)
    for (int64_t i = 0; i < count; i++) window[column * hidden + i] = past[i * c->columns + column];
  for (int64_t t = 0; t < c->length; t++) {
    const float *projected = c->projected + (sequence * c->length + t) * 3 * hidden + first;
    float *new = window + (c->columns + t) * hidden;
    for (int64_t i = 0; i < count; i++) new[i] = projected[i] * projected[2 * hidden + i];
    convolve_token(c, weight, window + (c->columns + t - c->taps + 1) * hidden, projected + hidden,
                   c->bias ? c->bias + first : NULL, count, c->gated + (sequence * c->length + t) * hidden + first);
  }
  for (int64_t column = 0; column < c->columns; column++)
    for (int64_t i = 0; i < count; i++) present[i * c->columns + column] = window[(c->length + column) * hidden + i];
}

void lfm_convolve(const Convolution *c, Parallel parallel, void *context) {
  Convolution job = *c;
  const size_t parts = (size_t)(c->batch * blocks_of(c));
  const int alone = c->batch * c->length * c->hidden < VALUES_ALONE;
  (alone ? in_turn : parallel)(context, convolve_block, parts, &job);
}
