/* AVX-512 VNNI: streams with 256-bit `vpdpbusd`, and multiplies 16 columns in a 512-bit register. */
#define ISA lfm_avx512vnni
#define ISA_NAME "avx512-vnni"
#define DOT _mm256_dpbusd_epi32
#define MULTIPLY "avx512.h"
#include "x86.h"
