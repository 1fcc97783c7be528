/* arm64 with the dot product: `sdot` adds four products to an int32 lane. */
#define ISA lfm_dotprod
#define ISA_NAME "neon-dotprod"
#include "arm64.h"
