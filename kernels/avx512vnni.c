/* AVX-512 VNNI: `vpdpbusd` on 16 columns in a 512-bit register. */
#define ISA lfm_avx512vnni
#define ISA_NAME "avx512-vnni"
#define INNER_LOOPS "avx512.h"
#include "x86.h"
