/* The part of onnxruntime's C interface that custom operators need. It is declared here, since wheels have no headers.
   The table of functions only ever grows, so an entry's index is part of the ABI. */
#ifndef LFM_ORT_API_H
#define LFM_ORT_API_H
#include <stddef.h>
#include <stdint.h>

enum { ORT_API_VERSION = 17 }; /* the first version that has all of the entries below */
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INVALID_ARGUMENT = 2, ORT_ARENA = 1, ORT_DEFAULT_MEMORY = 0, ORT_ATTRIBUTE_INT = 1 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

typedef struct OrtStatus OrtStatus; /* NULL is success */
typedef const void *const *OrtApi;
typedef struct {
  OrtApi (*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

/* X(index, name, result, parameters) */
#define ORT_ENTRIES(X) \
  X(0, CreateStatus, OrtStatus *, (int code, const char *message)) \
  X(26, CreateCustomOpDomain, OrtStatus *, (const char *name, void **domain)) \
  X(27, CustomOpDomain_Add, OrtStatus *, (void *domain, const void *op)) \
  X(28, AddCustomOpDomain, OrtStatus *, (void *session_options, void *domain)) \
  X(51, GetTensorMutableData, OrtStatus *, (void *value, void **data)) \
  X(57, CreateTensorTypeAndShapeInfo, OrtStatus *, (void **info)) \
  X(58, SetTensorElementType, OrtStatus *, (void *info, int type)) \
  X(59, SetDimensions, OrtStatus *, (void *info, const int64_t *dims, size_t count)) \
  X(61, GetDimensionsCount, OrtStatus *, (const void *info, size_t *count)) \
  X(62, GetDimensions, OrtStatus *, (const void *info, int64_t *dims, size_t count)) \
  X(63, GetSymbolicDimensions, OrtStatus *, (const void *info, const char **names, size_t count)) \
  X(65, GetTensorTypeAndShape, OrtStatus *, (const void *value, void **info)) \
  X(69, CreateCpuMemoryInfo, OrtStatus *, (int allocator, int memory, void **info)) \
  X(75, AllocatorAlloc, OrtStatus *, (void *allocator, size_t size, void **data)) \
  X(76, AllocatorFree, OrtStatus *, (void *allocator, void *data)) \
  X(86, KernelInfoGetAttribute_int64, OrtStatus *, (const void *info, const char *name, int64_t *value)) \
  X(88, KernelContext_GetInputCount, OrtStatus *, (const void *context, size_t *count)) \
  X(90, KernelContext_GetInput, OrtStatus *, (const void *context, size_t index, const void **value)) \
  X(91, KernelContext_GetOutput, OrtStatus *, (void *context, size_t index, const int64_t *dims, size_t count, void **value)) \
  X(93, ReleaseStatus, void, (OrtStatus *status)) \
  X(94, ReleaseMemoryInfo, void, (void *info)) \
  X(99, ReleaseTensorTypeAndShapeInfo, void, (void *info)) \
  X(132, ReleaseAllocator, void, (void *allocator)) \
  X(253, KernelContext_GetAllocator, OrtStatus *, (const void *context, const void *memory, void **allocator)) \
  X(268, ShapeInferContext_GetInputTypeShape, OrtStatus *, (const void *context, size_t index, void **info)) \
  X(269, ShapeInferContext_GetAttribute, OrtStatus *, (const void *context, const char *name, const void **attribute)) \
  X(270, ShapeInferContext_SetOutputTypeShape, OrtStatus *, (const void *context, size_t index, const void *info)) \
  X(271, SetSymbolicDimensions, OrtStatus *, (void *info, const char **names, size_t count)) \
  X(272, ReadOpAttr, OrtStatus *, (const void *attribute, int type, void *data, size_t size, size_t *written)) \
  X(274, KernelContext_ParallelFor, OrtStatus *, \
    (const void *context, void (*part)(void *job, size_t index), size_t parts, size_t batches, void *job))

#define ORT_TYPE(index, name, result, parameters) typedef result(*Ort_##name) parameters;
ORT_ENTRIES(ORT_TYPE)
#undef ORT_TYPE
enum {
#define ORT_INDEX(index, name, result, parameters) ORT_INDEX_##name = index,
  ORT_ENTRIES(ORT_INDEX)
#undef ORT_INDEX
};
#define ORT(api, name) ((Ort_##name)(api)[ORT_INDEX_##name])

typedef struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const struct OrtCustomOp *op, OrtApi api, const void *info);
  const char *(*GetName)(const struct OrtCustomOp *op);
  const char *(*GetExecutionProviderType)(const struct OrtCustomOp *op);
  int (*GetInputType)(const struct OrtCustomOp *op, size_t index);
  size_t (*GetInputTypeCount)(const struct OrtCustomOp *op);
  int (*GetOutputType)(const struct OrtCustomOp *op, size_t index);
  size_t (*GetOutputTypeCount)(const struct OrtCustomOp *op);
  void (*KernelCompute)(void *kernel, void *context);
  void (*KernelDestroy)(void *kernel);
  int (*GetInputCharacteristic)(const struct OrtCustomOp *op, size_t index);
  int (*GetOutputCharacteristic)(const struct OrtCustomOp *op, size_t index);
  int (*GetInputMemoryType)(const struct OrtCustomOp *op, size_t index);
  int (*GetVariadicInputMinArity)(const struct OrtCustomOp *op);
  int (*GetVariadicInputHomogeneity)(const struct OrtCustomOp *op);
  int (*GetVariadicOutputMinArity)(const struct OrtCustomOp *op);
  int (*GetVariadicOutputHomogeneity)(const struct OrtCustomOp *op);
  OrtStatus *(*CreateKernelV2)(const struct OrtCustomOp *op, OrtApi api, const void *info, void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, void *context);
  OrtStatus *(*InferOutputShapeFn)(const struct OrtCustomOp *op, void *context);
  int (*GetStartVersion)(const struct OrtCustomOp *op);
  int (*GetEndVersion)(const struct OrtCustomOp *op);
  size_t (*GetMayInplace)(int **inputs, int **outputs);
  void (*ReleaseMayInplace)(int *inputs, int *outputs);
  size_t (*GetAliasMap)(int **inputs, int **outputs);
  void (*ReleaseAliasMap)(int *inputs, int *outputs);
} OrtCustomOp;
#endif
