/* The attributes of a node, which operators.c lists. */
#include "operators.h"

/* Reads an attribute's value and checks its limits. The value is `missing` if the node has no such attribute. */
static OrtStatus *read_attribute(OrtApi api, const void *info, const char *name, int64_t missing, int64_t least,
                                 int64_t most, int64_t *value) {
  OrtStatus *status = ORT(api, KernelInfoGetAttribute_int64)(info, name, value);
  if (status) {
    ORT(api, ReleaseStatus)(status);
    *value = missing;
  }
  REQUIRE(api, *value >= least && *value <= most, "an attribute is missing or out of range");
  return NULL;
}

enum { MAX_SIZE = 1 << 24 /* so that no product of sizes overflows */, NO_VALUE = -1 };

OrtStatus *lfm_read_attributes(Kernel *k, const void *info) {
  int64_t isa, is_expert, bits, up_zeros, down_zeros, zeros, experts, gated;
  int64_t count = 0;
  while (lfm_isas[count]) count++;
  TRY(read_attribute(k->api, info, "isa", NO_VALUE, NO_VALUE, count - 1, &isa));
  k->isa = isa < 0 ? lfm_best_isa() : lfm_isas[isa];
  REQUIRE(k->api, lfm_runs(k->isa), "this CPU lacks the instruction set");
  TRY(read_attribute(k->api, info, "chosen", 0, 0, MAX_EXPERTS, &k->chosen));
  TRY(read_attribute(k->api, info, "bits", 4, 4, 8, &bits));
  REQUIRE(k->api, bits == 4 || bits == 8, "bits are 4 or 8");
  const int planes = (int)bits / 4;
  TRY(read_attribute(k->api, info, "columns", 0, 0, MAX_SIZE, &k->matrix.columns));
  TRY(read_attribute(k->api, info, "depth", 0, 0, MAX_SIZE, &k->matrix.depth));
  TRY(read_attribute(k->api, info, "zero_points", 0, 0, 1, &zeros));
  k->matrix.planes = planes, k->matrix.has_zero_points = (int)zeros;
  TRY(read_attribute(k->api, info, "experts", 0, 0, MAX_EXPERTS, &experts));
  is_expert = experts > 0;
  Experts *e = &k->experts;
  e->experts = (int)experts, e->chosen = (int)k->chosen;
  TRY(read_attribute(k->api, info, "hidden", 0, is_expert, MAX_SIZE, &e->hidden));
  TRY(read_attribute(k->api, info, "inner", 0, is_expert, MAX_SIZE, &e->inner));
  TRY(read_attribute(k->api, info, "up_zero_points", 0, 0, 1, &up_zeros));
  TRY(read_attribute(k->api, info, "down_zero_points", 0, 0, 1, &down_zeros));
  TRY(read_attribute(k->api, info, "gated", 1, 1, 2, &gated));
  e->gated = (int)gated;
  REQUIRE(k->api, !is_expert || (e->chosen > 0 && e->chosen <= e->experts), "Experts: `chosen` is out of range");
  e->up = (Matrix){NULL, (e->inner + BLOCK - 1) / BLOCK * BLOCK * 2, e->hidden, planes, (int)up_zeros};
  e->down = (Matrix){NULL, e->hidden, e->inner, planes, (int)down_zeros};
  return NULL;
}
