/* Which instruction sets this build has and this CPU runs. */
#include "lfm_kernels.h"
#include <string.h>

const Isa *const lfm_isas[] = {
#if defined(__x86_64__)
    &lfm_avx2,
#endif
    &lfm_portable, NULL};

int lfm_runs(const Isa *isa) {
  if (isa == &lfm_portable) return 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == &lfm_avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
  return 0;
}

const Isa *lfm_best_isa(void) {
  const Isa *const *isa = lfm_isas;
  while (!lfm_runs(*isa)) isa++;
  return *isa;
}
