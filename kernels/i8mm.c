/* arm64 with i8mm: `smmla` adds eight products to an int32 lane, of 2 rows x 2 columns at once. */
#define ISA lfm_i8mm
#define ISA_NAME "neon-i8mm"
#define MMLA
#include "arm64.h"
