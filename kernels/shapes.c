/* The shapes of the operators' outputs, which onnxruntime needs to optimize the graph around them. */
#include "operators.h"
#include <stdio.h>

typedef struct {
  int64_t sizes[MAX_DIMS]; /* -1 if unknown */
  const char *names[MAX_DIMS];
  size_t rank; /* 0 if unknown */
} Shape;

static OrtStatus *read_shape(OrtApi api, void *context, size_t input, Shape *shape) {
  void *info;
  *shape = (Shape){0};
  TRY(ORT(api, ShapeInferContext_GetInputTypeShape)(context, input, &info));
  TRY(ORT(api, GetDimensionsCount)(info, &shape->rank));
  if (shape->rank > MAX_DIMS) shape->rank = 0;
  TRY(ORT(api, GetDimensions)(info, shape->sizes, shape->rank));
  return ORT(api, GetSymbolicDimensions)(info, shape->names, shape->rank);
}

static OrtStatus *fill_shape(OrtApi api, void *context, size_t output, const Shape *shape, void *info) {
  static unsigned counter;
  char unknown[MAX_DIMS][32];
  const char *names[MAX_DIMS];
  for (size_t i = 0; i < shape->rank; i++) {
    names[i] = shape->names[i];
    if (shape->sizes[i] >= 0 || names[i][0]) continue;
    /* Each size that onnxruntime does not know needs a name; without a name, it would count as -1. */
    snprintf(unknown[i], sizeof unknown[i], "lfm.unknown.%u", __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
    names[i] = unknown[i];
  }
  TRY(ORT(api, SetTensorElementType)(info, ORT_FLOAT));
  TRY(ORT(api, SetDimensions)(info, shape->sizes, shape->rank));
  TRY(ORT(api, SetSymbolicDimensions)(info, names, shape->rank));
  return ORT(api, ShapeInferContext_SetOutputTypeShape)(context, output, info);
}

static OrtStatus *write_shape(OrtApi api, void *context, size_t output, const Shape *shape) {
  void *info;
  if (!shape->rank) return NULL;
  TRY(ORT(api, CreateTensorTypeAndShapeInfo)(&info));
  OrtStatus *status = fill_shape(api, context, output, shape, info);
  ORT(api, ReleaseTensorTypeAndShapeInfo)(info);
  return status;
}

static OrtApi api_of(const OrtCustomOp *op) {
  return __atomic_load_n(&((const Operator *)(const void *)op)->api, __ATOMIC_RELAXED);
}

OrtStatus *lfm_shape_as_input(const OrtCustomOp *op, void *context) {
  Shape shape;
  TRY(read_shape(api_of(op), context, 0, &shape));
  return write_shape(api_of(op), context, 0, &shape);
}

OrtStatus *lfm_shape_of_matmul(const OrtCustomOp *op, void *context) {
  const OrtApi api = api_of(op);
  const void *attribute;
  int64_t columns;
  size_t size;
  Shape shape;
  TRY(ORT(api, ShapeInferContext_GetAttribute)(context, "columns", &attribute));
  TRY(ORT(api, ReadOpAttr)(attribute, ORT_ATTRIBUTE_INT, &columns, sizeof columns, &size));
  TRY(read_shape(api, context, 0, &shape));
  if (shape.rank) shape.sizes[shape.rank - 1] = columns, shape.names[shape.rank - 1] = "";
  return write_shape(api, context, 0, &shape);
}

OrtStatus *lfm_shapes_of_convolution(const OrtCustomOp *op, void *context) {
  const OrtApi api = api_of(op);
  Shape gated, past;
  TRY(read_shape(api, context, 0, &gated));
  TRY(read_shape(api, context, 1, &past));
  if (gated.rank != 3 || past.rank != 3) return NULL; /* unknown, or refused when the operator runs */
  gated.sizes[2] = past.sizes[1], gated.names[2] = past.names[1];
  TRY(write_shape(api, context, 0, &gated));
  TRY(write_shape(api, context, 2, &past));
  const Shape trace = {{past.sizes[0], -1, past.sizes[1]}, {past.names[0], "", past.names[1]}, 3};
  return write_shape(api, context, 1, &trace);
}
