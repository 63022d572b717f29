/* Rows of float32, and between them and uint8. Tensors are channels last, a position's channels without a gap; strides
are in bytes as everywhere. */
#ifndef LAYERCAST_FLOATS_H
#define LAYERCAST_FLOATS_H

#define TARGET_FMA __attribute__((target("avx2,fma")))
#define INLINE_FMA TARGET_FMA static inline __attribute__((always_inline))

/* 8 channels of m positions of a 5x5 filter. */
INLINE_FMA void filter_tile(int m, const Operation *op, const uint8_t *const *x, const float *w, const float *bias,
                            uint8_t *to, int64_t n)
{
    const int64_t pixel = op->from[0].pixel;
    __m256 sums[8];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        sums[i] = _mm256_loadu_ps(bias);
    for (int row = 0; row < SIDE; row++, w += SIDE * WIDTH) {
        __m256 weights[SIDE];
#pragma GCC unroll 5
        for (int tap = 0; tap < SIDE; tap++)
            weights[tap] = _mm256_loadu_ps(w + tap * WIDTH);
#pragma GCC unroll 12
        for (int column = 0; column < m + SIDE - 1; column++) {
            const __m256 one = load_floats((const float *)(const void *)(x[row] + column * pixel), n);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                if (column >= i && column < i + SIDE)
                    sums[i] = _mm256_fmadd_ps(one, weights[column - i], sums[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        store_floats(floats(to + i * op->to.pixel), sums[i], n);
}

/* y = 5x5 filter of each channel + bias. The source has two rows and columns of 0 on each side. Weights are ordered by 8
channels, row, column and channel. */
TARGET_FMA static void filter(const Operation *op, uint8_t *scratch, int64_t y)
{
    const Tensor *from = &op->from[0];
    const int64_t pixel = from->pixel, to_pixel = op->to.pixel, most = in_first_cache(from);
    for (int64_t begin = 0, end; begin < op->columns; begin = end) {
        end = op->columns - begin < most ? op->columns : begin + most;
        const float *w = (const float *)(intptr_t)op->weights, *bias = (const float *)(intptr_t)op->bias;
        for (int64_t n = 0; n < op->to.channels; n += WIDTH, w += SIDE * SIDE * WIDTH) {
            const int64_t bytes = n * (int64_t)sizeof(float), left = op->to.channels - n;
            const uint8_t *rows[SIDE];
            uint8_t *to = row_of(&op->to, scratch, y) + begin * to_pixel + bytes;
            for (int i = 0; i < SIDE; i++)
                rows[i] = row_of(from, scratch, y + i - REACH) + (begin - REACH) * pixel + bytes;
            int64_t x = begin;
            for (; x + 8 <= end; x += 8, to += 8 * to_pixel) { /* sums that do not wait for each other */
                filter_tile(8, op, rows, w, bias + n, to, left);
                for (int i = 0; i < SIDE; i++)
                    rows[i] += 8 * pixel;
            }
            for (; x < end; x++, to += to_pixel) {
                filter_tile(1, op, rows, w, bias + n, to, left);
                for (int i = 0; i < SIDE; i++)
                    rows[i] += pixel;
            }
        }
    }
}

/* Those below go through a position's channels 8 at a time. */
#define EACH(op, x, to, c)                                                                                             \
    for (int64_t i = 0; i < (op)->columns; i++, x += (op)->from[0].pixel, to += (op)->to.pixel)                        \
        for (int64_t c = 0; c < (op)->to.channels; c += WIDTH)

/* y = x * scale. */
TARGET_FMA static void weigh(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    const float *scale = (const float *)(intptr_t)op->scale;
    uint8_t *to = row_of(&op->to, scratch, y);
    EACH(op, x, to, c)
    {
        const int64_t n = op->to.channels - c;
        const __m256 one = load_floats((const float *)(const void *)x + c, n);
        store_floats(floats(to) + c, _mm256_mul_ps(one, _mm256_loadu_ps(scale + c)), n);
    }
}

/* The first n of 8 int32, clipped to uint8. */
INLINE_FMA void store_bytes(uint8_t *to, __m256i y, int64_t n)
{
    const __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    const __m128i bytes = _mm_packus_epi16(shorts, shorts);
    uint64_t eight;
    _mm_storel_epi64((__m128i *)&eight, bytes);
    memcpy(to, &eight, n < WIDTH ? (size_t)n : WIDTH);
}

/* What is no number, and what no int32 holds, are at an end of a byte's range. */
INLINE_FMA __m256 bounded(__m256 x)
{
    return _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-1024)), _mm256_set1_ps(1024));
}

/* uint8 = clip(round(x * scale) + zero), ties to even. */
TARGET_FMA static void quantise(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    const float *scale = (const float *)(intptr_t)op->scale;
    const __m256i zero = _mm256_set1_epi32((int)op->zero);
    uint8_t *to = row_of(&op->to, scratch, y);
    EACH(op, x, to, c)
    {
        const int64_t n = op->to.channels - c;
        const __m256 one = load_floats((const float *)(const void *)x + c, n);
        const __m256i whole = _mm256_cvtps_epi32(bounded(_mm256_mul_ps(one, _mm256_loadu_ps(scale + c))));
        store_bytes(to + c, _mm256_add_epi32(whole, zero), n);
    }
}

/* uint8 = x without its fraction, clipped. */
TARGET_FMA static void to_bytes(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    EACH(op, x, to, c)
    {
        const int64_t n = op->to.channels - c;
        const __m256 one = load_floats((const float *)(const void *)x + c, n);
        store_bytes(to + c, _mm256_cvttps_epi32(bounded(one)), n);
    }
}

/* The first n of 8 bytes, as floats. */
INLINE_FMA __m256 widened(const uint8_t *x, int64_t n)
{
    uint64_t eight = 0;
    memcpy(&eight, x, n < WIDTH ? (size_t)n : WIDTH);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)eight)));
}

/* Bytes as floats. */
TARGET_FMA static void to_floats(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    EACH(op, x, to, c)
    {
        const int64_t n = op->to.channels - c;
        store_floats(floats(to) + c, widened(x + c, n), n);
    }
}

#endif
