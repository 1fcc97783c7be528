/* Runs the kernels on random operands, in threads, until a time is over: for builds with sanitizers.

     fuzz SECONDS SEED

   Every array has its exact size, so that a read or write beyond it is found. Each case runs on two threads at once that
   share the weights and spread their work over more threads; both results must be those of one thread, bit for bit.
   Prints how many cases ran, or what differs, with its seed. */
#include "../../kernels/lfm_kernels.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORKERS = 2, CALLERS = 2, MOST_ROWS = 20 };

void lfm_pack(const uint8_t *, const uint16_t *, const uint8_t *, int64_t, int64_t, int64_t, int, int, int, int64_t,
              uint8_t *);
size_t lfm_packed_bytes(int64_t columns, int64_t depth, int bits, int has_zero_points);

static uint64_t state;

static uint64_t draw(void) { /* xorshift64* */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 2685821657736338717u;
}

static int64_t between(int64_t least, int64_t most) { return least + (int64_t)((draw() >> 11) % (uint64_t)(most - least + 1)); }

static void *allocate(size_t size) {
  void *data = NULL;
  if (posix_memalign(&data, 64, size ? size : 1)) exit(1);
  return data;
}

static void *random_bytes(size_t size) {
  uint8_t *data = allocate(size);
  for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(draw() >> 32);
  return data;
}

/* Mostly ordinary values; now and then any bits: NaN, infinity, subnormals, huge values. */
static float *random_floats(int64_t count) {
  float *data = allocate((size_t)count * sizeof *data);
  int64_t strange = between(0, 3) ? 0 : 8;
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits = (uint32_t)(draw() >> 32);
    data[i] = (float)(int32_t)bits * 0x1p-31f;
    if (strange && between(0, 99) < strange) memcpy(data + i, &bits, sizeof bits);
  }
  return data;
}

/* Weights with float16 scales of any bits, packed from onnxruntime's layout, `count` matrices in a row. */
static uint8_t *random_matrices(Matrix *w, int count, int64_t rows, int gated) {
  const int bits = 4 * w->planes;
  const int64_t block = BLOCK * between(1, 4), blocks = (w->depth + block - 1) / block;
  const size_t size = lfm_packed_bytes(w->columns, w->depth, bits, w->has_zero_points);
  uint8_t *packed = allocate((size_t)count * size);
  for (int i = 0; i < count; i++) {
    uint8_t *weights = random_bytes((size_t)(rows * blocks * block * bits / 8));
    uint8_t *scales = random_bytes((size_t)(rows * blocks) * 2);
    uint8_t *zeros = w->has_zero_points ? random_bytes((size_t)(rows * ((blocks * bits + 7) / 8))) : NULL;
    lfm_pack(weights, (const uint16_t *)(const void *)scales, zeros, rows, w->depth, block, bits, w->has_zero_points, gated,
             w->columns, packed + (size_t)i * size);
    free(weights), free(scales), free(zeros);
  }
  w->data = packed;
  return packed;
}

typedef struct {
  const Isa *isa;
  int operator; /* 0 a product, 1 experts, 2 a router, 3 a convolution */
  int64_t rows;
  const float *x, *logits, *bias;
  Matrix matrix;
  Experts experts;
  Router router;
  Convolution convolution;
  int in_place; /* whether a convolution's past and present are the same memory */
  size_t outputs;
} Case;

typedef struct {
  void (*part)(void *, size_t);
  void *job;
  size_t parts, next;
} Work;

static void *work_on(void *opaque) {
  Work *work = opaque;
  for (size_t i; (i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->parts;) work->part(work->job, i);
  return NULL;
}

static void in_threads(void *context, void (*part)(void *, size_t), size_t parts, void *job) {
  Work work = {part, job, parts, 0};
  pthread_t threads[WORKERS];
  (void)context;
  for (int i = 0; i < WORKERS; i++)
    if (pthread_create(threads + i, NULL, work_on, &work)) exit(1);
  for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
}

/* Writes all results of a convolution to `y`, one after the other. */
static void convolve(const Case *c, Parallel parallel, float *y) {
  Convolution v = c->convolution;
  const size_t gated = (size_t)(v.batch * v.length * v.hidden), past = (size_t)(v.batch * v.hidden * v.columns);
  v.gated = allocate(gated * sizeof *y), v.trace = allocate((past + gated) * sizeof *y), v.present = allocate(past * sizeof *y);
  if (c->in_place) memcpy(v.present, v.past, past * sizeof *y), v.past = v.present;
  lfm_convolve(&v, parallel, NULL);
  memcpy(y, v.gated, gated * sizeof *y);
  memcpy(y + gated, v.trace, (past + gated) * sizeof *y);
  memcpy(y + gated + past + gated, v.present, past * sizeof *y);
  free(v.gated), free(v.trace), free(v.present);
}

static float *run(const Case *c, Parallel parallel) {
  float *y = allocate(c->outputs * sizeof *y);
  void *scratch = NULL;
  if (c->operator == 0) {
    scratch = allocate(lfm_matmul_scratch(&c->matrix, c->rows));
    lfm_matmul(c->isa, &c->matrix, c->x, c->rows, c->bias, y, scratch, parallel, NULL);
  } else if (c->operator == 1) {
    scratch = allocate(lfm_experts_scratch(&c->experts, c->rows));
    lfm_experts(c->isa, &c->experts, c->x, c->logits, c->rows, y, scratch, parallel, NULL);
  } else if (c->operator == 2) {
    lfm_route(c->isa, &c->router, c->x, c->rows, y, parallel, NULL);
  } else {
    convolve(c, parallel, y);
  }
  free(scratch);
  return y;
}

static void *run_in_threads(void *opaque) { return run(opaque, in_threads); }

/* Whether the results on threads are those of one thread. */
static int agrees(Case *c) {
  pthread_t callers[CALLERS];
  float *alone = run(c, in_turn);
  int same = 1;
  for (int i = 0; i < CALLERS; i++)
    if (pthread_create(callers + i, NULL, run_in_threads, c)) exit(1);
  for (int i = 0; i < CALLERS; i++) {
    void *y;
    pthread_join(callers[i], &y);
    same &= !memcmp(y, alone, c->outputs * sizeof *alone);
    free(y);
  }
  free(alone);
  return same;
}

static int try_matmul(Case *c) {
  Matrix *w = &c->matrix;
  *w = (Matrix){NULL, between(1, 80), between(1, 600), (int)between(1, 2), (int)between(0, 1)};
  uint8_t *packed = random_matrices(w, 1, w->columns, 0);
  float *x = random_floats(c->rows * w->depth), *bias = between(0, 1) ? random_floats(w->columns) : NULL;
  c->x = x, c->bias = bias, c->outputs = (size_t)(c->rows * w->columns);
  int same = agrees(c);
  free(packed), free(x), free(bias);
  return same;
}

static int try_experts(Case *c) {
  Experts *e = &c->experts;
  e->experts = (int)between(1, 5), e->chosen = (int)between(1, e->experts);
  e->hidden = between(1, 140), e->inner = between(1, 70), e->gated = (int)between(1, 2);
  const int planes = (int)between(1, 2);
  e->up = (Matrix){NULL, (e->inner + BLOCK - 1) / BLOCK * BLOCK * 2, e->hidden, planes, (int)between(0, 1)};
  e->down = (Matrix){NULL, e->hidden, e->inner, planes, (int)between(0, 1)};
  uint8_t *up = random_matrices(&e->up, e->experts, 2 * e->inner, e->gated);
  uint8_t *down = random_matrices(&e->down, e->experts, e->hidden, 0);
  float *up_bias = between(0, 1) ? random_floats(2 * e->inner * e->experts) : NULL;
  float *down_bias = between(0, 1) ? random_floats(e->hidden * e->experts) : NULL;
  float *x = random_floats(c->rows * e->hidden), *logits = random_floats(c->rows * e->experts);
  e->up_bias = up_bias, e->down_bias = down_bias;
  c->x = x, c->logits = logits, c->outputs = (size_t)(c->rows * e->hidden);
  int same = agrees(c);
  free(up), free(down), free(up_bias), free(down_bias), free(x), free(logits);
  return same;
}

static int try_router(Case *c) {
  Router *r = &c->router;
  *r = (Router){NULL, NULL, (int)between(1, 70), 0, between(1, 300)};
  r->chosen = (int)between(0, r->experts);
  float *weights = random_floats(r->experts * r->hidden), *bias = between(0, 1) ? random_floats(r->experts) : NULL;
  float *x = random_floats(c->rows * r->hidden);
  r->weights = weights, r->bias = bias;
  c->x = x, c->outputs = (size_t)(c->rows * r->experts);
  int same = agrees(c);
  free(weights), free(bias), free(x);
  return same;
}

static int try_convolution(Case *c) {
  Convolution *v = &c->convolution;
  *v = (Convolution){.batch = between(1, 3), .length = c->rows, .hidden = between(1, 150), .taps = between(1, MAX_TAPS)};
  v->columns = v->taps - 1 + between(v->taps == 1, 2);
  float *projected = random_floats(v->batch * v->length * 3 * v->hidden), *weight = random_floats(v->hidden * v->taps);
  float *past = random_floats(v->batch * v->hidden * v->columns), *bias = between(0, 1) ? random_floats(v->hidden) : NULL;
  v->projected = projected, v->past = past, v->weight = weight, v->bias = bias, c->in_place = (int)between(0, 1);
  c->outputs = (size_t)(2 * v->batch * v->hidden * (v->length + v->columns));
  int same = agrees(c);
  free(projected), free(past), free(weight), free(bias);
  return same;
}

int main(int count, char **arguments) {
  static int (*const attempts[])(Case *) = {try_matmul, try_experts, try_router, try_convolution};
  if (count != 3) return fprintf(stderr, "fuzz SECONDS SEED\n"), 2;
  const time_t end = time(NULL) + atoi(arguments[1]);
  const uint64_t first = strtoull(arguments[2], NULL, 10);
  uint64_t cases = 0;
  do {
    state = (first + cases + 1) * 0x9e3779b97f4a7c15u; /* of one case, so that it can be repeated alone */
    Case c = {.operator = (int)between(0, 3), .rows = between(0, 19) ? between(1, MOST_ROWS) : between(1, 2 * MAX_ROWS)};
    int isas = 0;
    while (lfm_isas[isas]) isas++;
    do c.isa = lfm_isas[between(0, isas - 1)];
    while (!lfm_runs(c.isa));
    if (!attempts[c.operator](&c))
      return printf("seed %llu: %s differs on threads\n", (unsigned long long)(first + cases), c.isa->name), 1;
    cases++;
  } while (time(NULL) < end);
  printf("%llu cases\n", (unsigned long long)cases);
}
