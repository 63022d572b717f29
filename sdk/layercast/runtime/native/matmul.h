/* The matrix product of a row of floats: included once for each set of instructions, as `pointwise.h` is, with

    ADD_TWO(s, x, w)   adds to s (int32) the sums of two products of x and w (int16)

It is computed in int16, which multiplies twice as many numbers at once as floats are. Some positions' inputs are scaled
by the largest of them, so that nothing is clipped whatever comes; weights have as many bits as sums of products then
have room for (`packing.in_int16`). Measured, with what scales the inputs: 0.66 (288 outputs) to 0.85 (40) of the time in
floats.

Where many inputs are 0, those that are so at all positions of a tile are left out: of latents that is half of them (1.4
bits per pixel, a picture full of detail) to nine in ten (0.3). */

#ifndef SHORTS
#define SHORTS 4096 /* inputs of the positions that are scaled together: a quarter of the first cache */
#define TILE 12     /* sums, which with what they are made of fill the 16 registers */
#define SIX 6       /* positions of a tile whose inputs may be listed */

/* Largest |x| of n floats, and `least`. */
INLINE_AVX2 float largest(const uint8_t *x, int64_t n, float least)
{
    const float *at = (const float *)(const void *)x;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most[4]; /* which do not wait for each other */
    for (int i = 0; i < 4; i++)
        most[i] = _mm256_set1_ps(least);
    int64_t k = 0;
    for (; k + 4 * WIDTH <= n; k += 4 * WIDTH)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            most[i] = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(at + k + WIDTH * i)), most[i]);
    for (; k < n; k += WIDTH)
        most[0] = _mm256_max_ps(_mm256_andnot_ps(sign, load_floats(at + k, n - k)), most[0]);
    const __m256 all = _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3]));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

/* 16 inputs, or those that are left and zeros, as int16. */
INLINE_AVX2 __m256i to_int16(const float *x, int64_t left, __m256 scale)
{
    const __m256 low = load_floats(x, left);
    const __m256 high = left > WIDTH ? load_floats(x + WIDTH, left - WIDTH) : _mm256_setzero_ps();
    const __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(low, scale)),
                                              _mm256_cvtps_epi32(_mm256_mul_ps(high, scale)));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}

/* Inputs of some positions as int16, the largest as `limit`, each position's filled up with zeros to `padded`, a multiple
of 16; returns what they are to be multiplied with. */
INLINE_AVX2 float scaled_to_int16(const Tensor *from, const uint8_t *x, int64_t positions, float limit, int64_t padded,
                                  int16_t *to)
{
    const int64_t inputs = from->channels;
    float most = 1e-30f; /* where all are zeros */
    if (from->pixel == inputs * (int64_t)sizeof(float))
        most = largest(x, positions * inputs, most);
    else
        for (int64_t i = 0; i < positions; i++)
            most = largest(x + i * from->pixel, inputs, most);
    const __m256 scale = _mm256_set1_ps(limit / most);
    for (int64_t i = 0; i < positions; i++, x += from->pixel, to += padded) {
        const float *at = (const float *)(const void *)x;
        int64_t k = 0;
        for (; k + LANES <= inputs; k += LANES)
            _mm256_store_si256((__m256i *)(to + k), to_int16(at + k, LANES, scale));
        if (k < inputs)
            _mm256_store_si256((__m256i *)(to + k), to_int16(at + k, inputs - k, scale));
    }
    return most / limit;
}

/* Pairs of inputs that are not 0 at all of six positions. */
typedef struct {
    int64_t count;
    const uint16_t *pairs;
} Used;

/* Lists them, from `list` on; returns where it ends. */
INLINE_AVX2 uint16_t *list_used(const int16_t *x, int64_t padded, Used *used, uint16_t *list)
{
    used->pairs = list;
    for (int64_t k = 0; k < padded; k += LANES) {
        __m256i any = _mm256_load_si256((const __m256i *)(x + k));
        for (int p = 1; p < SIX; p++)
            any = _mm256_or_si256(any, _mm256_load_si256((const __m256i *)(x + p * padded + k)));
        const __m256i none = _mm256_cmpeq_epi32(any, _mm256_setzero_si256());
        for (unsigned left = 255 ^ (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(none)); left; left &= left - 1)
            *list++ = (uint16_t)(k / 2 + __builtin_ctz(left));
    }
    used->count = list - used->pairs;
    return list;
}

/* What becomes of sums of products: of 8 outputs, the j-th such ones, y = max(sums * by + bias + what is added, least). */
typedef struct {
    const float *scale, *bias;
    float unit, least;
    const uint8_t *added;
    int64_t added_pixel;
    uint8_t *to;
    int64_t to_pixel;
    int64_t left; /* outputs there are */
} Outputs;

static const float NOTHING[2 * LANES]; /* is added where nothing is */
#endif

/* v vectors of outputs of m positions. `whole`: all of these outputs are there; `listed`: only these pairs of inputs
count, else all of the first `count` ones. */
TARGET static inline __attribute__((always_inline)) void NAMED(matmul_tile)(int m, int v, bool whole, const int16_t *x,
                                                                            int64_t padded, const int16_t *w,
                                                                            const int16_t *third, bool listed,
                                                                            const uint16_t *list, int64_t count,
                                                                            const Outputs *out, int64_t i)
{
    __m256i sums[TILE / 2][3];
#pragma GCC unroll 6
    for (int p = 0; p < m; p++)
#pragma GCC unroll 3
        for (int j = 0; j < v; j++)
            sums[p][j] = _mm256_setzero_si256();
    const float *inputs[TILE / 2]; /* two int16 each */
#pragma GCC unroll 6
    for (int p = 0; p < m; p++)
        inputs[p] = (const float *)(const void *)(x + (i + p) * padded);
    for (int64_t k = 0; k < count; k++) {
        const int64_t pair = listed ? list[k] : k;
        __m256i weights[3];
#pragma GCC unroll 3
        for (int j = 0; j < v; j++)
            weights[j] = _mm256_loadu_si256((const __m256i *)((j < 2 ? w + LANES * j : third) + 2 * LANES * pair));
#pragma GCC unroll 6
        for (int p = 0; p < m; p++) {
            const __m256i two = _mm256_castps_si256(_mm256_broadcast_ss(inputs[p] + pair));
#pragma GCC unroll 3
            for (int j = 0; j < v; j++)
                ADD_TWO(sums[p][j], two, weights[j]);
        }
    }
    const __m256 least = _mm256_set1_ps(out->least), unit = _mm256_set1_ps(out->unit);
    const uint8_t *added = out->added + i * out->added_pixel;
    uint8_t *to = out->to + i * out->to_pixel;
    const int64_t added_pixel = out->added_pixel, to_pixel = out->to_pixel, left = out->left;
#pragma GCC unroll 3
    for (int j = 0; j < v; j++) {
        const __m256 by = _mm256_mul_ps(unit, _mm256_loadu_ps(out->scale + WIDTH * j));
        const __m256 bias = _mm256_loadu_ps(out->bias + WIDTH * j);
        const int64_t n = whole ? WIDTH : left - WIDTH * j;
#pragma GCC unroll 6
        for (int p = 0; p < m; p++) {
            const float *other = (const float *)(const void *)(added + p * added_pixel);
            __m256 y = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[p][j]), by), bias);
            y = _mm256_max_ps(_mm256_add_ps(y, load_floats(other + WIDTH * j, n)), least);
            store_floats(floats(to + p * to_pixel) + WIDTH * j, y, n);
        }
    }
}

/* The third vector's weights are in the next 16 outputs. */
#define MATMUL_TILE(m, v, whole, listed, list, count)                                                                  \
    NAMED(matmul_tile)(m, v, whole, x, padded, w, w + 2 * LANES * pairs, listed, list, count, &out, i)

#define MATMUL_ROW(m, v)                                                                                               \
    do {                                                                                                               \
        int64_t i = 0;                                                                                                 \
        if (out.left >= WIDTH * v)                                                                                     \
            for (; i + m <= some; i += m) {                                                                            \
                const Used *now = &used[i / SIX];                                                                      \
                if (m == SIX && v == 2 && listed)                                                                      \
                    MATMUL_TILE(m, v, true, true, now->pairs, now->count);                                             \
                else                                                                                                   \
                    MATMUL_TILE(m, v, true, false, NULL, pairs);                                                       \
            }                                                                                                          \
        for (; i < some; i++)                                                                                          \
            MATMUL_TILE(1, v, false, false, NULL, pairs);                                                              \
        n += WIDTH * v, w += WIDTH * v * 2 * pairs;                                                                    \
    } while (0)

/* y = sum of w x + bias (+ what is added) (, but at least 0, where `high` is 1). Weights are ordered by 16 outputs, two
inputs, output and input, zeros where there is none; `scale` makes of an output's weights what was meant; `low`: the
largest input in int16; `zero`: 1 where many inputs are 0. */
TARGET static void NAMED(matmul)(const Operation *op, uint8_t *scratch, int64_t y)
{
    int16_t x[SHORTS] __attribute__((aligned(32)));
    uint16_t lists[SHORTS / 2];
    Used used[SHORTS / LANES];
    const Tensor *source = &op->from[0];
    const int64_t padded = (source->channels + LANES - 1) / LANES * LANES, pairs = (source->channels + 1) / 2;
    const int64_t most = SHORTS / padded, together = most < TILE ? most : most / TILE * TILE;
    const bool listed = op->zero;
    const uint8_t *from = row_of(source, scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const Added added = added_at(op, scratch, y);
    Outputs out = {.least = op->high ? 0 : -INFINITY,
                   .added_pixel = op->additions ? op->added[0].pixel : 0,
                   .to_pixel = op->to.pixel};
    for (int64_t begin = 0, some; begin < op->columns; begin += some) {
        some = op->columns - begin < together ? op->columns - begin : together;
        out.unit = scaled_to_int16(source, from + begin * source->pixel, some, (float)op->low, padded, x);
        uint16_t *list = lists;
        for (int64_t i = 0; listed && i + SIX <= some; i += SIX)
            list = list_used(x + i * padded, padded, &used[i / SIX], list);
        const int16_t *w = (const int16_t *)(intptr_t)op->weights;
        for (int64_t n = 0; n < op->to.channels;) {
            const int64_t bytes = n * (int64_t)sizeof(float);
            out.scale = (const float *)(intptr_t)op->scale + n;
            out.bias = (const float *)(intptr_t)op->bias + n;
            out.left = op->to.channels - n;
            out.to = to + begin * op->to.pixel + bytes;
            out.added = (const uint8_t *)NOTHING;
            if (op->additions)
                out.added = (const uint8_t *)moved(op, added, begin, bytes).at[0];
            const int64_t vectors = (out.left + WIDTH - 1) / WIDTH;
            if (vectors == 3)
                MATMUL_ROW(4, 3);
            else if (vectors > 1)
                MATMUL_ROW(6, 2);
            else
                MATMUL_ROW(6, 1);
        }
    }
}
#undef MATMUL_ROW
#undef MATMUL_TILE
