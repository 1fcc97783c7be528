/* AVX2: an int16 lane can hold 16 products, since a weight is at most 15 and an activation at most 127 in magnitude. */
#define ISA lfm_avx2
#define ISA_NAME "avx2"
#define MULTIPLY "avx2.h"
#include "x86.h"
