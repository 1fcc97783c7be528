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
#endif
