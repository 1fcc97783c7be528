/* The operators of domain `lfm` as onnxruntime calls them: they check shapes, find scratch memory and let the kernels
   run on onnxruntime's own threads.

     MatMul   x float [..., depth], packed weights, optional bias [columns] -> [..., columns]
              attributes columns, depth, bits, zero_points
     Experts  x float [..., hidden], logits [rows, experts], packed up, packed down, optional biases -> as x
              attributes experts, chosen, hidden, inner, bits, up_zero_points, down_zero_points, gated
     Router   x float [..., hidden], weights [experts, hidden], optional bias [experts] -> [rows, experts]
              attribute chosen; if it is 0, the shape is [..., experts]
     Convolution
              projected float [batch, length, 3 * hidden], past [batch, hidden, columns], weight [hidden, 1, taps],
              optional bias [hidden] -> [batch, length, hidden], trace [batch, columns + length, hidden], present as past
   The attribute `isa`, an index of lfm_isas, chooses an instruction set. Without it, the CPU's best one is used. */
#include "operators.h"
#include <stdlib.h>

typedef struct {
  const void *data;
  int64_t dims[MAX_DIMS];
  size_t rank;
} Tensor;

static OrtStatus *read_input(const Kernel *k, void *context, size_t index, Tensor *tensor) {
  const void *value = NULL;
  void *info;
  TRY(ORT(k->api, KernelContext_GetInput)(context, index, &value));
  *tensor = (Tensor){0};
  if (!value) return NULL; /* left out */
  TRY(ORT(k->api, GetTensorMutableData)((void *)value, (void **)&tensor->data));
  TRY(ORT(k->api, GetTensorTypeAndShape)(value, &info));
  OrtStatus *status = ORT(k->api, GetDimensionsCount)(info, &tensor->rank);
  if (!status && tensor->rank <= MAX_DIMS) status = ORT(k->api, GetDimensions)(info, tensor->dims, tensor->rank);
  ORT(k->api, ReleaseTensorTypeAndShapeInfo)(info);
  TRY(status);
  REQUIRE(k->api, tensor->rank <= MAX_DIMS, "too many dimensions");
  return NULL;
}

static OrtStatus *read_inputs(const Kernel *k, void *context, size_t count, Tensor *tensors) {
  size_t given;
  TRY(ORT(k->api, KernelContext_GetInputCount)(context, &given));
  for (size_t i = 0; i < count; i++) {
    tensors[i] = (Tensor){0};
    if (i < given) TRY(read_input(k, context, i, &tensors[i]));
  }
  REQUIRE(k->api, tensors[0].rank > 0, "the first input is a scalar");
  return NULL;
}

static int64_t elements(const Tensor *t, size_t dims) {
  int64_t count = 1;
  for (size_t i = 0; i < dims; i++) count *= t->dims[i];
  return count;
}

/* Returns whether an optional input is left out or has `count` elements. */
static int fits(const Tensor *t, int64_t count) { return (!t->data && !t->rank) || elements(t, t->rank) == count; }

static int64_t rows_of(const Tensor *x) { return elements(x, x->rank - 1); }

static OrtStatus *make_output(const Kernel *k, void *context, size_t index, const int64_t *dims, size_t rank,
                              float **data) {
  void *value;
  TRY(ORT(k->api, KernelContext_GetOutput)(context, index, dims, rank, &value));
  return ORT(k->api, GetTensorMutableData)(value, (void **)data);
}

typedef struct {
  const Kernel *kernel;
  void *context;
  OrtStatus *status; /* the first that failed */
} Threads;

static void parallel(void *opaque, void (*part)(void *, size_t), size_t parts, void *job) {
  Threads *threads = opaque;
  if (!threads->status && parts)
    threads->status = ORT(threads->kernel->api, KernelContext_ParallelFor)(threads->context, part, parts, 0, job);
}

/* Scratch memory comes from onnxruntime's arena and goes back to it after the operator. */
typedef struct {
  void *allocator, *data;
} Scratch;

static OrtStatus *take_scratch(const Kernel *k, void *context, size_t size, Scratch *scratch) {
  scratch->data = NULL;
  TRY(ORT(k->api, KernelContext_GetAllocator)(context, k->memory, &scratch->allocator));
  OrtStatus *status = ORT(k->api, AllocatorAlloc)(scratch->allocator, size + 64, &scratch->data);
  if (status) ORT(k->api, ReleaseAllocator)(scratch->allocator);
  return status;
}

static void *aligned(const Scratch *scratch) { return (void *)(((uintptr_t)scratch->data + 63) & ~(uintptr_t)63); }

/* Returns `status`, or if that is NULL, whether the memory could be given back. */
static OrtStatus *give_back(const Kernel *k, Scratch *scratch, OrtStatus *status) {
  OrtStatus *freed = ORT(k->api, AllocatorFree)(scratch->allocator, scratch->data);
  ORT(k->api, ReleaseAllocator)(scratch->allocator);
  if (!status) return freed;
  ORT(k->api, ReleaseStatus)(freed); /* may be NULL */
  return status;
}

static int has_bytes(const Tensor *t, const Matrix *w, int64_t count) {
  return elements(t, t->rank) == count * groups(w) * (int64_t)group_bytes(w);
}

static OrtStatus *compute_matmul(void *opaque, void *context) {
  const Kernel *k = opaque;
  Tensor in[3];
  float *y;
  TRY(read_inputs(k, context, 3, in));
  Matrix w = k->matrix;
  w.data = in[1].data;
  REQUIRE(k->api, w.columns && w.depth, "MatMul: the attribute `columns` or `depth` is missing");
  REQUIRE(k->api, in[0].dims[in[0].rank - 1] == w.depth, "MatMul: the last dimension is not `depth`");
  REQUIRE(k->api, has_bytes(&in[1], &w, 1), "MatMul: packed weights of another size");
  REQUIRE(k->api, fits(&in[2], w.columns), "MatMul: a bias of another size");
  const int64_t rows = rows_of(&in[0]);
  in[0].dims[in[0].rank - 1] = w.columns;
  TRY(make_output(k, context, 0, in[0].dims, in[0].rank, &y));
  if (!rows) return NULL;
  Scratch scratch;
  TRY(take_scratch(k, context, lfm_matmul_scratch(&w, rows), &scratch));
  Threads threads = {k, context, NULL};
  lfm_matmul(k->isa, &w, in[0].data, rows, in[2].data, y, aligned(&scratch), parallel, &threads);
  return give_back(k, &scratch, threads.status);
}

static OrtStatus *compute_experts(void *opaque, void *context) {
  const Kernel *k = opaque;
  Tensor in[6];
  float *y;
  TRY(read_inputs(k, context, 6, in));
  Experts e = k->experts;
  e.up.data = in[2].data, e.down.data = in[3].data, e.up_bias = in[4].data, e.down_bias = in[5].data;
  const int64_t rows = rows_of(&in[0]);
  REQUIRE(k->api, e.experts, "Experts: the attribute `experts` is missing");
  REQUIRE(k->api, in[0].dims[in[0].rank - 1] == e.hidden, "Experts: the last dimension is not `hidden`");
  REQUIRE(k->api, elements(&in[1], in[1].rank) == rows * e.experts, "Experts: logits of another size");
  REQUIRE(k->api, has_bytes(&in[2], &e.up, e.experts) && has_bytes(&in[3], &e.down, e.experts),
          "Experts: packed weights of another size");
  REQUIRE(k->api, fits(&in[4], 2 * e.inner * e.experts), "Experts: biases of another size");
  REQUIRE(k->api, fits(&in[5], e.hidden * e.experts), "Experts: biases of another size");
  REQUIRE(k->api, rows < INT32_MAX, "Experts: too many rows");
  TRY(make_output(k, context, 0, in[0].dims, in[0].rank, &y));
  if (!rows) return NULL;
  Scratch scratch;
  TRY(take_scratch(k, context, lfm_experts_scratch(&e, rows), &scratch));
  Threads threads = {k, context, NULL};
  lfm_experts(k->isa, &e, in[0].data, in[1].data, rows, y, aligned(&scratch), parallel, &threads);
  return give_back(k, &scratch, threads.status);
}

static OrtStatus *compute_router(void *opaque, void *context) {
  const Kernel *k = opaque;
  Tensor in[3];
  float *y;
  TRY(read_inputs(k, context, 3, in));
  const int64_t hidden = in[0].dims[in[0].rank - 1], rows = rows_of(&in[0]);
  REQUIRE(k->api, in[1].rank == 2 && in[1].dims[1] == hidden, "Router: weights of another shape");
  const int64_t experts = in[1].dims[0];
  REQUIRE(k->api, experts > 0 && experts <= MAX_EXPERTS && k->chosen <= experts, "Router: too few or too many experts");
  REQUIRE(k->api, fits(&in[2], experts), "Router: a bias of another size");
  const Router router = {in[1].data, in[2].data, (int)experts, (int)k->chosen, hidden};
  in[0].dims[in[0].rank - 1] = experts;
  const int64_t flat[] = {rows, experts};
  TRY(make_output(k, context, 0, k->chosen ? flat : in[0].dims, k->chosen ? 2 : in[0].rank, &y));
  Threads threads = {k, context, NULL};
  lfm_route(k->isa, &router, in[0].data, rows, y, parallel, &threads);
  return threads.status;
}

static OrtStatus *compute_convolution(void *opaque, void *context) {
  const Kernel *k = opaque;
  Tensor in[4];
  Convolution c;
  TRY(read_inputs(k, context, 4, in));
  REQUIRE(k->api, in[0].rank == 3 && in[1].rank == 3 && in[2].rank == 3, "Convolution: an input has not three dimensions");
  c.batch = in[0].dims[0], c.length = in[0].dims[1];
  c.hidden = in[1].dims[1], c.columns = in[1].dims[2], c.taps = in[2].dims[2];
  REQUIRE(k->api, in[0].dims[2] == 3 * c.hidden, "Convolution: the projection is not three times as wide as the past");
  REQUIRE(k->api, in[1].dims[0] == c.batch, "Convolution: the past has another batch size");
  REQUIRE(k->api, in[2].dims[0] == c.hidden && in[2].dims[1] == 1, "Convolution: weights of another shape");
  REQUIRE(k->api, c.taps > 0 && c.taps <= MAX_TAPS && c.columns >= c.taps - 1, "Convolution: too many taps");
  REQUIRE(k->api, fits(&in[3], c.hidden), "Convolution: a bias of another size");
  c.projected = in[0].data, c.past = in[1].data, c.weight = in[2].data, c.bias = in[3].data;
  const int64_t gated[] = {c.batch, c.length, c.hidden}, trace[] = {c.batch, c.columns + c.length, c.hidden};
  TRY(make_output(k, context, 0, gated, 3, &c.gated));
  TRY(make_output(k, context, 1, trace, 3, &c.trace));
  TRY(make_output(k, context, 2, in[1].dims, 3, &c.present));
  Threads threads = {k, context, NULL};
  lfm_convolve(&c, parallel, &threads);
  return threads.status;
}

static void destroy_kernel(void *opaque) {
  Kernel *k = opaque;
  if (k->memory) ORT(k->api, ReleaseMemoryInfo)(k->memory);
  free(k);
}

static OrtStatus *create_kernel(const OrtCustomOp *op, OrtApi api, const void *info, void **kernel) {
  (void)op;
  Kernel *k = calloc(1, sizeof *k);
  REQUIRE(api, k, "out of memory");
  k->api = api;
  OrtStatus *status = lfm_read_attributes(k, info);
  if (!status) status = ORT(api, CreateCpuMemoryInfo)(ORT_ARENA, ORT_DEFAULT_MEMORY, &k->memory);
  if (status)
    destroy_kernel(k);
  else
    *kernel = k;
  return status;
}

static const char *matmul_name(const OrtCustomOp *op) { return (void)op, "MatMul"; }
static const char *experts_name(const OrtCustomOp *op) { return (void)op, "Experts"; }
static const char *router_name(const OrtCustomOp *op) { return (void)op, "Router"; }
static const char *convolution_name(const OrtCustomOp *op) { return (void)op, "Convolution"; }
static const char *any_provider(const OrtCustomOp *op) { return (void)op, NULL; }
static size_t three_inputs(const OrtCustomOp *op) { return (void)op, 3; }
static size_t four_inputs(const OrtCustomOp *op) { return (void)op, 4; }
static size_t six_inputs(const OrtCustomOp *op) { return (void)op, 6; }
static size_t one_output(const OrtCustomOp *op) { return (void)op, 1; }
static size_t three_outputs(const OrtCustomOp *op) { return (void)op, 3; }
static int matmul_type(const OrtCustomOp *op, size_t i) { return (void)op, i == 1 ? ORT_UINT8 : ORT_FLOAT; }
static int experts_type(const OrtCustomOp *op, size_t i) { return (void)op, i / 2 == 1 ? ORT_UINT8 : ORT_FLOAT; }
static int float_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_FLOAT; }
static int third_optional(const OrtCustomOp *op, size_t i) { return (void)op, i == 2 ? ORT_OPTIONAL : ORT_REQUIRED; }
static int fourth_optional(const OrtCustomOp *op, size_t i) { return (void)op, i == 3 ? ORT_OPTIONAL : ORT_REQUIRED; }
static int biases_optional(const OrtCustomOp *op, size_t i) { return (void)op, i > 3 ? ORT_OPTIONAL : ORT_REQUIRED; }
static int required(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_REQUIRED; }
static int default_memory(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_DEFAULT_MEMORY; }
static int one(const OrtCustomOp *op) { return (void)op, 1; }

#define OPERATOR(name_, type, inputs, outputs, characteristic, compute, shape) \
  {.op = {.version = ORT_API_VERSION, .GetName = name_, .GetExecutionProviderType = any_provider, .GetInputType = type, \
          .GetInputTypeCount = inputs, .GetOutputType = float_type, .GetOutputTypeCount = outputs, \
          .KernelDestroy = destroy_kernel, .GetInputCharacteristic = characteristic, \
          .GetOutputCharacteristic = required, .GetInputMemoryType = default_memory, .GetVariadicInputMinArity = one, \
          .GetVariadicInputHomogeneity = one, .GetVariadicOutputMinArity = one, .GetVariadicOutputHomogeneity = one, \
          .CreateKernelV2 = create_kernel, .KernelComputeV2 = compute, .InferOutputShapeFn = shape, \
          .GetStartVersion = one, .GetEndVersion = one}}

static Operator operators[] = {
    OPERATOR(matmul_name, matmul_type, three_inputs, one_output, third_optional, compute_matmul, lfm_shape_of_matmul),
    OPERATOR(experts_name, experts_type, six_inputs, one_output, biases_optional, compute_experts, lfm_shape_as_input),
    OPERATOR(router_name, float_type, three_inputs, one_output, third_optional, compute_router, NULL),
    OPERATOR(convolution_name, float_type, four_inputs, three_outputs, fourth_optional, compute_convolution,
             lfm_shapes_of_convolution),
};

/* Called by onnxruntime when a session's options name this library. The domain is never released: it must outlive the
   session, and onnxruntime does not say when that ends. */
LFM_API OrtStatus *RegisterCustomOps(void *session_options, const OrtApiBase *base) {
  OrtApi oldest = base->GetApi(1), api = base->GetApi(ORT_API_VERSION);
  if (!api) return ORT(oldest, CreateStatus)(ORT_INVALID_ARGUMENT, "lfm kernels: this onnxruntime is too old");
  void *domain;
  TRY(ORT(api, CreateCustomOpDomain)("lfm", &domain));
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    __atomic_store_n(&operators[i].api, api, __ATOMIC_RELAXED); /* the same for every session */
    TRY(ORT(api, CustomOpDomain_Add)(domain, &operators[i].op));
  }
  return ORT(api, AddCustomOpDomain)(session_options, domain);
}
