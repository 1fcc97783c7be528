/* AVX-VNNI: `vpdpbusd` adds four products to an int32 lane. */
#define ISA lfm_avxvnni
#define ISA_NAME "avx-vnni"
#define MULTIPLY "avx2.h"
#ifdef LFM_SIMDE
#define DOT simde_mm256_dpbusd_epi32
#else
#define DOT _mm256_dpbusd_avx_epi32
#endif
#include "x86.h"
