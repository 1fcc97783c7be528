/* A panel: unpacked weights of 16 columns x CHUNK blocks, with one byte for each nibble, so 8 x 64 bytes per block and
   plane. Rows are computed TILE_ROWS at a time. */
enum { TILE_ROWS = 4, CHUNK = 16 /* K 512 */ };

typedef struct {
  uint8_t q[CHUNK * 2 * 512];
  float scales[CHUNK * PANEL];
  int32_t zeros[CHUNK * PANEL];
} __attribute__((aligned(64))) Panel;
