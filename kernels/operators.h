/* A node of the graph, as its attributes describe it, and how the operators report errors to onnxruntime. */
#ifndef OPERATORS_H
#define OPERATORS_H
#include "lfm_kernels.h"
#include "ort_api.h"

typedef struct {
  OrtApi api;
  const Isa *isa;
  void *memory;
  Matrix matrix;
  Experts experts;
  int64_t chosen;
} Kernel;

enum { MAX_DIMS = 8 };

/* An operator, and the interface for its shape function: onnxruntime does not pass the interface to that function. */
typedef struct {
  OrtCustomOp op;
  OrtApi api;
} Operator;

#define TRY(call) \
  do { \
    OrtStatus *status_ = (call); \
    if (status_) return status_; \
  } while (0)
#define REQUIRE(api, condition, message) \
  do { \
    if (!(condition)) return ORT(api, CreateStatus)(ORT_INVALID_ARGUMENT, "lfm kernels: " message); \
  } while (0)

/* Fills `kernel`, whose `api` is set, from a node's attributes. */
OrtStatus *lfm_read_attributes(Kernel *kernel, const void *info);

/* The shapes of the outputs, as far as they follow from those of the inputs. */
OrtStatus *lfm_shape_as_input(const OrtCustomOp *op, void *context);
OrtStatus *lfm_shape_of_matmul(const OrtCustomOp *op, void *context);
OrtStatus *lfm_shapes_of_convolution(const OrtCustomOp *op, void *context);
#endif
