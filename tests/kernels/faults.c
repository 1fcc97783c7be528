/* Runs the operators on a stand-in for onnxruntime whose calls fail: for builds with AddressSanitizer.

   For each n, one run fails the n-th call only, and another fails it and all later calls. The stand-in allocates every
   object it returns, so AddressSanitizer reports the objects that the operators did not release. Prints the number of
   runs. */
#include "../../kernels/operators.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

OrtStatus *RegisterCustomOps(void *session_options, const OrtApiBase *base);

enum { ENTRIES = ORT_INDEX_KernelContext_ParallelFor + 1, MOST = 6 };

struct OrtStatus {
  int code;
};

/* A tensor, or only its shape if `values` is NULL. */
typedef struct {
  int64_t dims[3];
  size_t rank;
  float *values;
} Value;

typedef struct {
  const char *operator;
  struct {
    const char *name;
    int64_t value;
  } attributes[MOST];
  Value inputs[MOST];
} Case;

static const void *api[ENTRIES];
static const OrtCustomOp *operators[8];
static size_t found;
static const Case *current;
static float memory[1 << 16];
static int calls, first_failure, failures;

static OrtStatus *outcome(void) {
  calls++;
  if (calls < first_failure || calls >= first_failure + failures) return NULL;
  return calloc(1, sizeof(OrtStatus));
}

/* Returns a status if this call fails. Otherwise, does `work`. */
#define CALL(work) \
  OrtStatus *status = outcome(); \
  if (!status) work; \
  return status

static OrtStatus *create_status(int code, const char *message) {
  OrtStatus *status = calloc(1, sizeof *status);
  status->code = code + !message;
  return status;
}
static OrtStatus *create_object(void **object) { CALL(*object = calloc(1, sizeof(Value))); }
static OrtStatus *create_domain(const char *name, void **domain) { CALL(*domain = (void *)(uintptr_t)name); }
static OrtStatus *add_operator(void *domain, const void *op) { (void)domain; CALL(operators[found++] = op); }
static OrtStatus *add_domain(void *options, void *domain) { (void)options, (void)domain; CALL((void)0); }
static OrtStatus *get_data(void *value, void **data) { CALL(*data = ((Value *)value)->values); }
static OrtStatus *set_type(void *info, int type) { (void)info, (void)type; CALL((void)0); }
static OrtStatus *set_dims(void *info, const int64_t *dims, size_t count) {
  (void)info;
  CALL(for (size_t i = 0; i < count; i++) if (dims[i] < -1) abort());
}
static OrtStatus *count_dims(const void *info, size_t *count) { CALL(*count = ((const Value *)info)->rank); }
static OrtStatus *get_dims(const void *info, int64_t *dims, size_t count) {
  CALL(memcpy(dims, ((const Value *)info)->dims, count * sizeof *dims));
}
static OrtStatus *get_names(const void *info, const char **names, size_t count) {
  (void)info;
  CALL(for (size_t i = 0; i < count; i++) names[i] = "");
}
static OrtStatus *set_names(void *info, const char **names, size_t count) {
  (void)info;
  CALL(for (size_t i = 0; i < count; i++) if (!names[i]) abort());
}
static OrtStatus *get_shape(const void *value, void **info) {
  CALL(*info = memcpy(malloc(sizeof(Value)), value, sizeof(Value)));
}
static OrtStatus *create_memory_info(int allocator, int kind, void **info) {
  (void)allocator, (void)kind;
  return create_object(info);
}
static OrtStatus *allocate(void *allocator, size_t size, void **data) { (void)allocator; CALL(*data = malloc(size)); }
static OrtStatus *deallocate(void *allocator, void *data) { (void)allocator, free(data); CALL((void)0); }
static OrtStatus *get_attribute(const void *info, const char *name, int64_t *value) {
  (void)info;
  OrtStatus *status = outcome();
  for (int i = 0; !status && i < MOST && current->attributes[i].name; i++)
    if (!strcmp(current->attributes[i].name, name)) return *value = current->attributes[i].value, NULL;
  return status ? status : create_status(1, "missing");
}
static OrtStatus *count_inputs(const void *context, size_t *count) { (void)context; CALL(*count = MOST); }
static OrtStatus *get_input(const void *context, size_t index, const void **value) {
  (void)context;
  CALL(*value = current->inputs[index].values ? current->inputs + index : NULL);
}
static OrtStatus *get_output(void *context, size_t index, const int64_t *dims, size_t count, void **value) {
  static Value outputs[3];
  int64_t size = 1;
  (void)context;
  for (size_t i = 0; i < count; i++) size *= dims[i];
  if (size > (int64_t)(sizeof memory / sizeof *memory / 4)) abort();
  outputs[index].values = memory + (index + 1) * sizeof memory / sizeof *memory / 4;
  CALL(*value = outputs + index);
}
static OrtStatus *get_allocator(const void *context, const void *info, void **allocator) {
  (void)context, (void)info;
  return create_object(allocator);
}
static OrtStatus *borrow_shape(const void *context, size_t index, void **info) {
  static Value borrowed[MOST];
  (void)context;
  borrowed[index] = current->inputs[index];
  CALL(*info = borrowed + index);
}
static OrtStatus *find_attribute(const void *context, const char *name, const void **attribute) {
  (void)context;
  CALL(*attribute = name);
}
static OrtStatus *set_output_shape(const void *context, size_t index, const void *info) {
  (void)context, (void)index, (void)info;
  CALL((void)0);
}
static OrtStatus *read_attribute(const void *attribute, int type, void *data, size_t size, size_t *written) {
  (void)type, *written = size;
  return get_attribute(NULL, attribute, data);
}
static OrtStatus *run_parts(const void *context, void (*part)(void *, size_t), size_t parts, size_t batches, void *job) {
  (void)context, (void)batches;
  CALL(for (size_t i = 0; i < parts; i++) part(job, i));
}

static OrtApi get_api(uint32_t version) { return version <= ORT_API_VERSION ? api : NULL; }

static void fill_api(void) {
#define ENTRY(name, function) api[ORT_INDEX_##name] = (const void *)(uintptr_t)function
  ENTRY(CreateStatus, create_status), ENTRY(ReleaseStatus, free), ENTRY(CreateCustomOpDomain, create_domain);
  ENTRY(CustomOpDomain_Add, add_operator), ENTRY(AddCustomOpDomain, add_domain), ENTRY(GetTensorMutableData, get_data);
  ENTRY(CreateTensorTypeAndShapeInfo, create_object), ENTRY(SetTensorElementType, set_type);
  ENTRY(SetDimensions, set_dims), ENTRY(GetDimensionsCount, count_dims), ENTRY(GetDimensions, get_dims);
  ENTRY(GetSymbolicDimensions, get_names), ENTRY(GetTensorTypeAndShape, get_shape);
  ENTRY(CreateCpuMemoryInfo, create_memory_info), ENTRY(AllocatorAlloc, allocate), ENTRY(AllocatorFree, deallocate);
  ENTRY(KernelInfoGetAttribute_int64, get_attribute), ENTRY(KernelContext_GetInputCount, count_inputs);
  ENTRY(KernelContext_GetInput, get_input), ENTRY(KernelContext_GetOutput, get_output);
  ENTRY(ReleaseMemoryInfo, free), ENTRY(ReleaseTensorTypeAndShapeInfo, free), ENTRY(ReleaseAllocator, free);
  ENTRY(KernelContext_GetAllocator, get_allocator), ENTRY(ShapeInferContext_GetInputTypeShape, borrow_shape);
  ENTRY(ShapeInferContext_GetAttribute, find_attribute), ENTRY(SetSymbolicDimensions, set_names);
  ENTRY(ShapeInferContext_SetOutputTypeShape, set_output_shape), ENTRY(ReadOpAttr, read_attribute);
  ENTRY(KernelContext_ParallelFor, run_parts);
}

/* Registers all operators, and runs one as onnxruntime does. Returns the first status that is not NULL. */
static OrtStatus *run(void) {
  static const OrtApiBase base = {get_api, NULL};
  found = 0;
  OrtStatus *status = RegisterCustomOps(NULL, &base);
  const OrtCustomOp *op = NULL;
  for (size_t i = 0; !status && i < found; i++)
    if (!strcmp(operators[i]->GetName(operators[i]), current->operator)) op = operators[i];
  if (!op) return status;
  void *kernel = NULL;
  if (op->InferOutputShapeFn) status = op->InferOutputShapeFn(op, NULL);
  if (!status) status = op->CreateKernelV2(op, api, NULL, &kernel);
  if (!status) status = op->KernelComputeV2(kernel, NULL);
  if (kernel) op->KernelDestroy(kernel);
  return status;
}

int main(void) {
  const int64_t packed = 4 * (PLANE_BYTES + SCALE_BYTES) * 2; /* of a matrix with at most 16 columns and 128 k */
  const Case cases[] = {
      {"MatMul", {{"columns", 16}, {"depth", 100}}, {{{3, 100}, 2, memory}, {{packed}, 1, memory}}},
      {"Experts",
       {{"experts", 2}, {"chosen", 1}, {"hidden", 16}, {"inner", 8}},
       {{{3, 16}, 2, memory}, {{3, 2}, 2, memory}, {{2 * 4 * packed}, 1, memory}, {{2 * packed}, 1, memory}}},
      {"Router", {{"chosen", 2}}, {{{40, 16}, 2, memory}, {{4, 16}, 2, memory}}},
      {"Convolution", {{NULL, 0}}, {{{1, 5, 24}, 3, memory}, {{1, 8, 3}, 3, memory}, {{8, 1, 3}, 3, memory}}},
  };
  int runs = 0;
  fill_api();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int all = 0; all < 2; all++) {
      current = cases + i;
      for (first_failure = 1;; first_failure++, runs++) {
        calls = 0, failures = all ? 1 << 20 : 1;
        OrtStatus *status = run();
        const int reached = calls >= first_failure;
        if (!reached && status) return printf("%s is refused\n", current->operator), 1;
        free(status);
        if (!reached) break;
      }
    }
  printf("%d runs\n", runs);
}
