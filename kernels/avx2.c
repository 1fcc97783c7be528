/* AVX2: 16 products fit an int16 lane, since a weight is at most 15 and an activation at most 127 in size. */
#define ISA lfm_avx2
#define ISA_NAME "avx2"
#include "x86.h"
