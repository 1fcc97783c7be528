/* A matrix product in two regimes, included after an instruction set's `stream`, `unpack` and `tile`:
   up to 4 rows stream the packed weights, more rows use tiles of 4 rows on an unpacked panel. */
#define FOR_FORMAT(DO, rows) DO(rows, 1, 0) DO(rows, 1, 1) DO(rows, 2, 0) DO(rows, 2, 1)
#define STREAM(rows, planes, zeros) \
  static void stream_##rows##_##planes##_##zeros(int64_t count, const uint8_t *w, const Activations *const *x, float *out) { \
    stream(rows, planes, zeros, count, w, x, out); \
  }
#define TILE(rows, planes, zeros) \
  static void tile_##rows##_##planes##_##zeros(int blocks, const Panel *panel, const Activations *const *x, int64_t first, \
                                               float *out) { \
    tile(rows, planes, zeros, blocks, panel, x, first, out); \
  }
#define UNPACK(rows, planes, zeros) \
  static void unpack_##planes##_##zeros(int64_t count, const uint8_t *w, int half, Panel *panel) { \
    unpack(planes, zeros, count, w, half, panel); \
  }
#define STREAM_AND_TILE(rows) FOR_FORMAT(STREAM, rows) FOR_FORMAT(TILE, rows)
STREAM_AND_TILE(1) STREAM_AND_TILE(2) STREAM_AND_TILE(3) STREAM_AND_TILE(4)
FOR_FORMAT(UNPACK, 0)

typedef struct {
  void (*stream[STREAMED_ROWS])(int64_t, const uint8_t *, const Activations *const *, float *);
  void (*tile[TILE_ROWS])(int, const Panel *, const Activations *const *, int64_t, float *);
  void (*unpack)(int64_t, const uint8_t *, int, Panel *);
} Functions;

#define FUNCTIONS(p, z) \
  {{stream_1_##p##_##z, stream_2_##p##_##z, stream_3_##p##_##z, stream_4_##p##_##z}, \
   {tile_1_##p##_##z, tile_2_##p##_##z, tile_3_##p##_##z, tile_4_##p##_##z}, \
   unpack_##p##_##z}
static const Functions functions[2][2] = {{FUNCTIONS(1, 0), FUNCTIONS(1, 1)}, {FUNCTIONS(2, 0), FUNCTIONS(2, 1)}};

static void multiply(const Matrix *w, int64_t group, int rows, const Activations *const *x, float *out) {
  const Functions *f = &functions[w->planes - 1][w->has_zero_points];
  const int64_t count = superblocks(w);
  const size_t size = superblock_bytes(w->planes, w->has_zero_points), stride = (size_t)count * size;
  const uint8_t *data = w->data + (size_t)group * stride;
  if (rows <= STREAMED_ROWS) {
    for (int half = 0; half < 2; half++)
      f->stream[rows - 1](count, data + (size_t)half * stride, x, out + half * GROUP);
    return;
  }
  Panel panel;
  memset(out, 0, (size_t)rows * PANEL * sizeof *out);
  for (int64_t s = 0; s < count; s += CHUNK / BLOCKS) {
    int64_t some = count - s < CHUNK / BLOCKS ? count - s : CHUNK / BLOCKS;
    for (int half = 0; half < 2; half++) f->unpack(some, data + (size_t)half * stride + (size_t)s * size, half, &panel);
    for (int r = 0; r < rows; r += TILE_ROWS) {
      int n = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
      f->tile[n - 1]((int)some * BLOCKS, &panel, x + r, s * BLOCKS, out + r * PANEL);
    }
  }
}
