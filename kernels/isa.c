/* The instruction sets of this build, and a check whether this CPU supports them. */
#include "lfm_kernels.h"

const Isa *const lfm_isas[] = {
#ifdef LFM_AVX512VNNI
    &lfm_avx512vnni,
#endif
#ifdef LFM_AVXVNNI
    &lfm_avxvnni,
#endif
#ifdef LFM_AVX2
    &lfm_avx2,
#endif
#ifdef LFM_I8MM
    &lfm_i8mm,
#endif
#ifdef LFM_DOTPROD
    &lfm_dotprod,
#endif
    &lfm_portable, NULL};

#ifdef LFM_SIMDE
static int runs_special(const Isa *isa) { return (void)isa, 1; /* emulated */ }
#elif defined(LFM_AVX2)
#include <cpuid.h>

/* The compiler's own checks lack F16C before gcc 11 and in older versions of clang, and AVX-VNNI before gcc 14. */
static int has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Bit 4 of EAX of leaf 7, subleaf 1. */
static int has_avx_vnni(void) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

/* The compiler's checks also fail if the operating system does not support the registers. */
static int runs_special(const Isa *isa) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return 0;
  if (isa == &lfm_avx2) return 1;
#ifdef LFM_AVXVNNI
  if (isa == &lfm_avxvnni) return has_avx_vnni();
#endif
#ifdef LFM_AVX512VNNI
  if (isa == &lfm_avx512vnni)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
  return 0;
}
#elif defined(LFM_DOTPROD) && defined(__APPLE__)
#include <sys/sysctl.h>

static int has(const char *feature) {
  int value = 0;
  size_t size = sizeof value;
  return !sysctlbyname(feature, &value, &size, NULL, 0) && value;
}

static int runs_special(const Isa *isa) {
  return has("hw.optional.arm.FEAT_DotProd") && (isa == &lfm_dotprod || has("hw.optional.arm.FEAT_I8MM"));
}
#elif defined(LFM_DOTPROD)
#include <sys/auxv.h>

enum { DOTPROD = 1 << 20, I8MM = 1 << 13 }; /* HWCAP_ASIMDDP and HWCAP2_I8MM, which old headers lack */

static int runs_special(const Isa *isa) {
  return (getauxval(AT_HWCAP) & DOTPROD) && (isa == &lfm_dotprod || (getauxval(AT_HWCAP2) & I8MM));
}
#else
static int runs_special(const Isa *isa) { return (void)isa, 0; }
#endif

int lfm_runs(const Isa *isa) { return isa == &lfm_portable || runs_special(isa); }

const Isa *lfm_best_isa(void) {
  const Isa *const *isa = lfm_isas;
  while (!lfm_runs(*isa)) isa++;
  return *isa;
}
