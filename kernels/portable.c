/* Micro-kernels in plain C: the reference for the other ones, and the fallback for CPUs that support no other. */
#include "lfm_kernels.h"
#include <string.h>

float lfm_half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000 | fraction << 13;
  } else if (exponent) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else { /* zero or subnormal: fraction * 2^-24 */
    float value = (float)fraction * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
  }
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static int32_t round_to_even(float x) { /* for |x| < 2^22 */
  volatile float shifted = x + 12582912.0f;
  return (int32_t)(shifted - 12582912.0f);
}

static void quantize_block(const float *x, int64_t count, int factor, Activations *out) {
  uint32_t most = 0;
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff; /* magnitudes have the same order as integers and as floats, and NaN is the largest */
    if (bits > most) most = bits;
  }
  memset(out, 0, sizeof *out);
  if (most >= 0x7f800000) { /* infinity or NaN: the block's scale is NaN, and with it every product */
    out->scale = __builtin_nanf("");
    return;
  }
  float limit;
  memcpy(&limit, &most, sizeof limit);
  if (!(limit > 4e-37f)) return; /* 127 / limit would be infinite; such a block is zero */
  float inverse = 127.0f / limit;
  int32_t sum = 0;
  for (int64_t i = 0; i < count; i++) {
    int32_t q = round_to_even(x[i] * inverse);
    out->q[i] = (int8_t)q;
    sum += q;
  }
  out->scale = limit / 127.0f;
  out->bias = factor * sum;
}

static void quantize(const float *x, int64_t k, int64_t blocks, int factor, Activations *out) {
  for (int64_t b = 0; b < blocks; b++) {
    int64_t left = k - b * BLOCK;
    quantize_block(left > 0 ? x + b * BLOCK : x, left < 0 ? 0 : left < BLOCK ? left : BLOCK, factor, out + b);
  }
}

static int32_t block_sum(const uint8_t *plane, int column, const int8_t *q) {
  int32_t sum = 0;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int byte = plane[32 * i + 4 * column + j];
      sum += (byte & 15) * q[4 * i + j] + (byte >> 4) * q[16 + 4 * i + j];
    }
  return sum;
}

static float one_product(const Matrix *w, const uint8_t *group, int column, const Activations *x) {
  const size_t block = (size_t)w->planes * PLANE_BYTES, size = superblock_bytes(w->planes, w->has_zero_points);
  float sum = 0;
  for (int64_t s = 0; s < superblocks(w); s++, group += size)
    for (int b = 0; b < BLOCKS; b++, x++) {
      const uint8_t *plane = group + (size_t)b * block, *scales = group + BLOCKS * block;
      int32_t total = block_sum(plane, column, x->q);
      if (w->planes == 2) total += 16 * block_sum(plane + PLANE_BYTES, column, x->q);
      total += w->has_zero_points ? scales[BLOCKS * SCALE_BYTES + b * ZERO_BYTES + column] * x->bias : x->bias;
      uint16_t half;
      memcpy(&half, scales + b * SCALE_BYTES + 2 * column, sizeof half);
      /* In double, the product is exact, and the sum is rounded nearly as by a fused multiply-add. */
      sum = (float)((double)sum + (double)total * (double)(lfm_half_to_float(half) * x->scale));
    }
  return sum;
}

static void multiply(const Matrix *w, int64_t group, int rows, const Activations *const *x, float *out) {
  for (int half = 0; half < 2; half++) {
    const uint8_t *data = w->data + (size_t)(group + half) * group_bytes(w);
    for (int r = 0; r < rows; r++)
      for (int n = 0; n < GROUP; n++) out[r * PANEL + half * GROUP + n] = one_product(w, data, n, x[r]);
  }
}

/* e^x by Cephes' polynomial, with a relative error of 2e-7. */
float lfm_exp(float x) {
  static const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f};
  if (x != x) return x;
  if (x < -87.3f) return 0;
  if (x > 88.3f) x = 88.3f;
  int32_t n = round_to_even(x * 1.44269504f);
  x = x - (float)n * 0.693359375f;
  x = x + (float)n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  for (int i = 0; i < 5; i++) p = p * x + coefficients[i];
  p = p * (x * x) + x + 1;
  uint32_t bits = (uint32_t)(n + 127) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

/* The logarithm of a positive normal number x: that of its exponent plus, as a series, that of its fraction. The
   error is 2e-7, relative to the result or to 1. */
float lfm_log(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  int32_t exponent = (int32_t)(bits >> 23) - 127;
  bits = (bits & 0x7fffff) | 0x3f800000;
  float fraction;
  memcpy(&fraction, &bits, sizeof fraction);
  if (fraction > 1.41421356f) fraction *= 0.5f, exponent++;
  double t = ((double)fraction - 1) / ((double)fraction + 1), square = t * t, series = 0;
  for (int i = 13; i > 0; i -= 2) series = series * square + 1.0 / i;
  return (float)(exponent * 0.69314718055994531 + 2 * t * series);
}

static void gate(const float *gates_and_ups, int rows, float *out) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < GROUP; i++) {
      float g = gates_and_ups[r * PANEL + i], u = gates_and_ups[r * PANEL + GROUP + i];
      out[r * BLOCK + i] = u * (g / (lfm_exp(-g) + 1));
    }
}

static void dots(const float *x, const float *w, int64_t k, int count, float *out) {
  for (int i = 0; i < count; i++, w += k) {
    float sum[8] = {0};
    for (int64_t j = 0; j < k; j++) sum[j % 8] += x[j] * w[j];
    out[i] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
  }
}

const Isa lfm_portable = {"portable", quantize, multiply, gate, dots};
