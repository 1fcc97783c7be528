/* Products of int8 activations and packed 4- or 8-bit weights. docs/kernels.md describes the packing and the arithmetic.

   A packed matrix [columns, depth] is a row of groups of 8 columns. A group is a row of superblocks of 128 k; k is the
   index along the depth. Columns and depth are padded with zeros, columns to a multiple of 16. A superblock holds
     4 blocks of 32 k     128 bytes per plane. Of column n, byte 32 i + 4 n + j holds k = 4 i + j in its low half and
                          k = 16 + 4 i + j in its high half. 8-bit weights have two planes, low and high nibbles.
     4 x 8 scales         float16
     4 x 8 zero points    uint8, only if the matrix has them; all others are 8 (4 bits) or 128 (8 bits)
   Rows of a matrix product are independent: integer sums are exact, and the float sum over blocks has one fixed order. */
#ifndef LFM_KERNELS_H
#define LFM_KERNELS_H
#include <stddef.h>
#include <stdint.h>

#define LFM_VERSION 4 /* must equal VERSION in server/runtime/native/library.py */
#define LFM_API __attribute__((visibility("default")))

enum { BLOCK = 32, BLOCKS = 4, SUPERBLOCK = BLOCK * BLOCKS, GROUP = 8, PANEL = 2 * GROUP, MAX_ROWS = 128 };
enum { PLANE_BYTES = 128, SCALE_BYTES = 2 * GROUP, ZERO_BYTES = GROUP };

/* A block of 32 activations, q * scale. `bias` is the correction for zero points: -sum(q) or, if all columns share a
   zero point, -sum(q) times this zero point. */
typedef struct {
  int8_t q[BLOCK];
  float scale;
  int32_t bias;
} Activations;

typedef struct {
  const uint8_t *data;
  int64_t columns, depth;
  int planes;          /* 1 for 4 bits, 2 for 8 bits */
  int has_zero_points; /* if 0, every zero point is 8 or 128 */
} Matrix;

static inline int64_t superblocks(const Matrix *w) { return (w->depth + SUPERBLOCK - 1) / SUPERBLOCK; }
static inline int64_t groups(const Matrix *w) { return (w->columns + PANEL - 1) / PANEL * 2; }
static inline size_t superblock_bytes(int planes, int has_zero_points) {
  return (size_t)BLOCKS * (size_t)(planes * PLANE_BYTES + SCALE_BYTES + (has_zero_points ? ZERO_BYTES : 0));
}
static inline size_t group_bytes(const Matrix *w) {
  return (size_t)superblocks(w) * superblock_bytes(w->planes, w->has_zero_points);
}
static inline int bias_factor(const Matrix *w) { return w->has_zero_points ? -1 : w->planes == 1 ? -8 : -128; }

/* One instruction set's micro-kernels.
     quantize  fills `blocks` blocks from k floats, padded with zeros
     multiply  computes `rows` (at most MAX_ROWS) x 16 columns, from group `group` on, into out[rows][16]
     gate      turns 8 gates and 8 ups per row into silu(gate) * up; the rows of `out` are 32 floats apart
     dots      computes x . w[i] for each of `count` rows of w */
typedef struct {
  const char *name;
  void (*quantize)(const float *x, int64_t k, int64_t blocks, int factor, Activations *out);
  void (*multiply)(const Matrix *w, int64_t group, int rows, const Activations *const *x, float *out);
  void (*gate)(const float *gates_and_ups, int rows, float *out);
  void (*dots)(const float *x, const float *w, int64_t k, int count, float *out);
} Isa;

/* All instruction sets of this build, the best first, ending with NULL. */
extern const Isa *const lfm_isas[];
/* Returns whether this CPU supports an instruction set. */
int lfm_runs(const Isa *isa);
const Isa *lfm_best_isa(void);

extern const Isa lfm_portable, lfm_avx2, lfm_avxvnni, lfm_avx512vnni, lfm_dotprod, lfm_i8mm;

/* Runs part(job, 0) .. part(job, parts - 1) on the threads of `context`. */
typedef void (*Parallel)(void *context, void (*part)(void *job, size_t index), size_t parts, void *job);

/* A Parallel that uses the calling thread only. */
static inline void in_turn(void *context, void (*part)(void *, size_t), size_t parts, void *job) {
  (void)context;
  for (size_t i = 0; i < parts; i++) part(job, i);
}

/* y[rows][columns] = x[rows][depth] * w^T + bias, where bias may be NULL. `scratch` is 64-byte aligned. */
size_t lfm_matmul_scratch(const Matrix *w, int64_t rows);
void lfm_matmul(const Isa *isa, const Matrix *w, const float *x, int64_t rows, const float *bias, float *y,
                void *scratch, Parallel parallel, void *context);

/* A block of experts.
     up         [experts][2 * inner, hidden], 8 gates and 8 ups in turn, with inner padded to a multiple of 32
     down       [experts][hidden, inner]
     up_bias    [experts][2 * inner] or NULL, as in the graph: gates and ups in turn (`gated` 1) or first all gates (2)
     down_bias  [experts][hidden] or NULL */
typedef struct {
  Matrix up, down;
  int experts, chosen;
  int64_t hidden, inner;
  const float *up_bias, *down_bias;
  int gated;
} Experts;

/* Returns the row of the graph's matrix that becomes a packed column, or -1 for padding. The graph has gates and ups in
   turn (`gated` 1) or first all gates (2). They go into panels of 8 gates and 8 ups. */
int64_t lfm_source_row(int64_t column, int64_t rows, int gated);

/* y[rows][hidden]: for each row, the sum of the SwiGLU of its chosen experts, weighted by the softmax of their logits.
   These are the `chosen` experts with the largest of logits[rows][experts]. */
size_t lfm_experts_scratch(const Experts *e, int64_t rows);
void lfm_experts(const Isa *isa, const Experts *e, const float *x, const float *logits, int64_t rows, float *y,
                 void *scratch, Parallel parallel, void *context);

/* A router's float32 weights [experts][hidden]; `bias` may be NULL. If `chosen` is 0, the result is the scores. */
enum { MAX_EXPERTS = 1024 };
typedef struct {
  const float *weights, *bias;
  int experts, chosen;
  int64_t hidden;
} Router;

/* y[rows][experts]: the logits that lfm_experts takes. */
void lfm_route(const Isa *isa, const Router *r, const float *x, int64_t rows, float *y, Parallel parallel,
               void *context);

/* A gated short convolution over windows of `taps` tokens; `bias` may be NULL.
     projected  [batch][length][3 * hidden]: for each token the gates b and c, and the value x
     past       [batch][hidden][columns]; columns >= taps - 1
     present    as past; may be the same memory
     weight     [hidden][taps]
     trace      [batch][columns + length][hidden]: the past transposed, then b * x of each token
     gated      [batch][length][hidden]: c times the convolution of the trace */
enum { MAX_TAPS = 16 };
typedef struct {
  const float *projected, *past, *weight, *bias;
  float *gated, *trace, *present;
  int64_t batch, length, hidden, columns, taps;
} Convolution;

void lfm_convolve(const Convolution *c, Parallel parallel, void *context);

float lfm_exp(float x);
float lfm_log(float x);
float lfm_half_to_float(uint16_t half);
#endif
