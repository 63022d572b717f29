/* What each kind of operation does with one row. */
#ifndef LAYERCAST_ROWS_H
#define LAYERCAST_ROWS_H

#include <immintrin.h>
#include <math.h>
#include <string.h>

typedef void Row(const Operation *op, uint8_t *scratch, int64_t y);

enum { AVX2 = 1, VNNI };

#define TARGET_AVX2 __attribute__((target("avx2")))
#define INLINE_AVX2 TARGET_AVX2 static inline __attribute__((always_inline))
#define TARGET_VNNI __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))

static int has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* Sums of four products, two by two in int16, which the weights keep from saturating, and then in int32. */
#define DOTS(x, w) _mm256_maddubs_epi16(x, w)
#define WIDEN(dots) _mm256_madd_epi16(dots, _mm256_set1_epi16(1))

/* To s (int32), in its own register, sums of two products of int16. Left to itself the compiler regroups such sums: it
then has more of them at once than there are registers, and takes twice as long. */
#define ADD_PRODUCTS(s, x, w) __asm__("vpaddd %1, %0, %0" : "+x"(s) : "x"(_mm256_madd_epi16(x, w)))

#ifdef EMULATE_VNNI /* tests: everything of that set but its one instruction, on any processor with AVX2 */
#undef TARGET_VNNI
#define TARGET_VNNI TARGET_AVX2
#define ADD_FOUR(s, x, w) _mm256_add_epi32(s, WIDEN(DOTS(x, w)))
#define ADD_PAIR(s, x, w) ADD_PRODUCTS(s, x, w)
static int has_vnni(void)
{
    return has_avx2();
}
#else
#define ADD_FOUR(s, x, w) _mm256_dpbusd_epi32(s, x, w)
#define ADD_PAIR(s, x, w) s = _mm256_dpwssd_epi32(s, x, w)
static int has_vnni(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

/* The first n of 16 int16 values, clipped to uint8; n is 16 or more, or a multiple of 4. */
#define STORE(name, target)                                                                                            \
    target static inline __attribute__((always_inline)) void name(uint8_t *to, __m256i y, int64_t n)                   \
    {                                                                                                                  \
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));                   \
        if (n >= LANES) {                                                                                              \
            _mm_storeu_si128((__m128i *)to, bytes);                                                                    \
            return;                                                                                                    \
        }                                                                                                              \
        if (n & 8) {                                                                                                   \
            _mm_storel_epi64((__m128i *)to, bytes);                                                                    \
            bytes = _mm_srli_si128(bytes, 8);                                                                          \
            to += 8;                                                                                                   \
        }                                                                                                              \
        if (n & 4) {                                                                                                   \
            const int four = _mm_cvtsi128_si32(bytes);                                                                 \
            memcpy(to, &four, sizeof four);                                                                            \
        }                                                                                                              \
    }

/* round(sums * scale), ties to even: every sum is below 2**24 (the exporter proves it), so that it and its product with
a power of two are exact in float32, and converting back rounds as every thread's processor is set when it starts. */
#define ROUNDED(name, target)                                                                                          \
    target static inline __attribute__((always_inline)) __m256i name(__m256i sums, const float *scale)                 \
    {                                                                                                                  \
        return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale)));                    \
    }

#define WIDTH 8 /* floats in a vector */

static const int32_t MASKS[2 * WIDTH] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

/* The first n of 8 floats, n > 0; 8 and more are all. */
INLINE_AVX2 __m256 load_floats(const float *x, int64_t n)
{
    if (n >= WIDTH)
        return _mm256_loadu_ps(x);
    return _mm256_maskload_ps(x, _mm256_loadu_si256((const __m256i *)(MASKS + WIDTH - n)));
}

INLINE_AVX2 void store_floats(float *to, __m256 y, int64_t n)
{
    if (n >= WIDTH)
        _mm256_storeu_ps(to, y);
    else
        _mm256_maskstore_ps(to, _mm256_loadu_si256((const __m256i *)(MASKS + WIDTH - n)), y);
}

static inline float *floats(uint8_t *x)
{
    return (float *)(void *)x;
}

/* 16 channels, or the first n and what is between them and the next multiple of 4. */
INLINE_AVX2 __m128i load(const uint8_t *x, int64_t n)
{
    uint64_t first = 0, then = 0;
    if (n > 12)
        return _mm_loadu_si128((const __m128i *)x);
    memcpy(&first, x, n > 4 ? 8 : 4);
    if (n > 8)
        memcpy(&then, x + 8, 4);
    return _mm_set_epi64x((long long)then, (long long)first);
}

#define WIDE(x, n) _mm256_cvtepu8_epi16(load(x, n))

/* Addresses of a position and channel of what is added. */
typedef struct {
    intptr_t at[ADDITIONS];
} Added;

static inline Added added_at(const Operation *op, uint8_t *scratch, int64_t y)
{
    Added a = {{0}};
    for (int64_t k = 0; k < op->additions; k++)
        a.at[k] = (intptr_t)row_of(&op->added[k], scratch, y);
    return a;
}

/* i positions on, and so many bytes. */
static inline Added moved(const Operation *op, Added a, int64_t i, int64_t bytes)
{
    for (int k = 0; k < ADDITIONS; k++)
        a.at[k] += (intptr_t)(i * op->added[k].pixel + bytes);
    return a;
}

/* To m vectors y (16 int16), one a position, 16 or the first n channels of what is added, of tensors with the same
zero; each sum is clipped to uint8 before the next. */
INLINE_AVX2 void add_to(int m, const Operation *op, Added a, int64_t n, __m256i *y)
{
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero), most = _mm256_set1_epi16(255);
    for (int64_t k = 0; k < op->additions; k++) {
        const uint8_t *at = (const uint8_t *)a.at[k];
        const int64_t pixel = op->added[k].pixel;
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            const __m256i clipped = _mm256_min_epi16(_mm256_max_epi16(y[i], _mm256_setzero_si256()), most);
            y[i] = _mm256_sub_epi16(_mm256_add_epi16(clipped, WIDE(at + i * pixel, n)), zero);
        }
    }
}

#define EVERYWHERE(set, target) STORE(store_##set, target) ROUNDED(rounded_##set, target)
EVERYWHERE(avx2, TARGET_AVX2)
EVERYWHERE(vnni, TARGET_VNNI)

#define BEGIN(s, x, w) DOTS(x, w)
#define GO_ON(g, x, w) _mm256_add_epi16(g, DOTS(x, w))
#define END(s, g) _mm256_add_epi32(s, WIDEN(g))
#define NAMED(x) x##_avx2
#define TARGET TARGET_AVX2
#define ADD_TWO(s, x, w) ADD_PRODUCTS(s, x, w)
#include "pointwise.h"
#include "matmul.h"
#undef BEGIN
#undef GO_ON
#undef END
#undef ADD_TWO
#undef NAMED
#undef TARGET

#define BEGIN(s, x, w) ADD_FOUR(s, x, w)
#define GO_ON(g, x, w) ADD_FOUR(g, x, w)
#define END(s, g) g
#define NAMED(x) x##_vnni
#define TARGET TARGET_VNNI
#define ADD_TWO(s, x, w) ADD_PAIR(s, x, w)
#include "pointwise.h"
#include "matmul.h"

#define SIDE 5
#define REACH 2
#define FILTERED 16384 /* bytes: half of the first cache */

/* 16 channels of two positions side by side, as pairs. */
INLINE_AVX2 __m256i in_pairs(const uint8_t *a, const uint8_t *b)
{
    const __m128i first = _mm_loadu_si128((const __m128i *)a), second = _mm_loadu_si128((const __m128i *)b);
    return _mm256_set_m128i(_mm_unpackhi_epi8(first, second), _mm_unpacklo_epi8(first, second));
}

/* To s (int16) products two by two; not left to the compiler for what `ADD_PRODUCTS` tells. */
#define ADD_DOTS(s, x, w) __asm__("vpaddw %1, %0, %0" : "+x"(s) : "x"(DOTS(x, w)))

/* round((sums + bias) * scale) + zero of 16 sums of products in int16, as int16; bias and scale are ordered as the
instructions leave them: channels 0-3 and 8-11, then 4-7 and 12-15. */
INLINE_AVX2 __m256i finished(__m256i sums, const __m256i *bias, const float *scale, __m256i zero)
{
    const __m256i low = _mm256_srai_epi32(_mm256_unpacklo_epi16(sums, sums), 16);
    const __m256i high = _mm256_srai_epi32(_mm256_unpackhi_epi16(sums, sums), 16);
    return _mm256_adds_epi16(_mm256_packs_epi32(rounded_avx2(_mm256_add_epi32(low, bias[0]), scale),
                                                rounded_avx2(_mm256_add_epi32(high, bias[1]), scale + 8)),
                             zero);
}

/* 16 channels of m positions of a 5x5 filter: y = clip(round((sum of w x + bias) * scale) + zero). Whatever the input, the
sum of products stays within int16 (`programs/graph.py` looks at the weights).

x: the filter's first position in each of the five rows. Weights are of pairs, by channel: of the first two rows and the
next two, in each column; of the last row's columns 0 and 1, 2 and 3, 4 and nothing. */
INLINE_AVX2 void depthwise_tile(int m, const Operation *op, const uint8_t *const *x, const int8_t *w,
                                const int32_t *bias, const float *scale, uint8_t *to, int64_t n)
{
    const int64_t pixel = op->from[0].pixel;
    __m256i sums[8], weights[SIDE];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        sums[i] = _mm256_setzero_si256();
    for (int pair = 0; pair < 2; pair++, w += SIDE * 2 * LANES) {
        const uint8_t *above = x[2 * pair], *below = x[2 * pair + 1];
#pragma GCC unroll 5
        for (int tap = 0; tap < SIDE; tap++)
            weights[tap] = _mm256_loadu_si256((const __m256i *)(w + tap * 2 * LANES));
#pragma GCC unroll 12
        for (int column = 0; column < m + SIDE - 1; column++) {
            const __m256i both = in_pairs(above + column * pixel, below + column * pixel);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++)
                if (column >= i && column < i + SIDE)
                    ADD_DOTS(sums[i], both, weights[column - i]);
        }
    }
#pragma GCC unroll 3
    for (int tap = 0; tap < SIDE; tap += 2)
        weights[tap] = _mm256_loadu_si256((const __m256i *)(w + tap * LANES));
#pragma GCC unroll 12
    for (int column = 0; column < m + SIDE - 1; column++) {
        const int next = column < m + SIDE - 2 ? column + 1 : column;
        const __m256i both = in_pairs(x[4] + column * pixel, x[4] + next * pixel);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++)
            if (column >= i && column < i + SIDE && (column - i) % 2 == 0)
                ADD_DOTS(sums[i], both, weights[column - i]);
    }
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero),
                  biases[2] = {_mm256_loadu_si256((const __m256i *)bias), _mm256_loadu_si256((const __m256i *)(bias + 8))};
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        store_avx2(to + i * op->to.pixel, finished(sums[i], biases, scale, zero), n);
}

/* Positions whose five rows of all channels stay in the first cache while one group of channels after the other
reads them: a whole row of a picture does not, and is fetched from the next cache for each. */
static int64_t in_first_cache(const Tensor *from)
{
    const int64_t fit = FILTERED / (SIDE * from->pixel) - 2 * REACH;
    return fit < 8 ? 8 : fit / 8 * 8;
}

/* The source has two rows and columns of its zero on each side, and channels to a multiple of 16. */
TARGET_AVX2 static void depthwise(const Operation *op, uint8_t *scratch, int64_t y)
{
    const Tensor *from = &op->from[0];
    const int64_t pixel = from->pixel, to_pixel = op->to.pixel, most = in_first_cache(from);
    for (int64_t begin = 0, end; begin < op->columns; begin = end) {
        end = op->columns - begin < most ? op->columns : begin + most;
        const int8_t *w = (const int8_t *)(intptr_t)op->weights;
        const int32_t *bias = (const int32_t *)(intptr_t)op->bias;
        const float *scale = (const float *)(intptr_t)op->scale;
        for (int64_t n = 0; n < op->to.channels; n += LANES, w += (SIDE * SIDE + 1) * LANES) {
            const uint8_t *rows[SIDE];
            uint8_t *to = row_of(&op->to, scratch, y) + begin * to_pixel + n;
            for (int i = 0; i < SIDE; i++)
                rows[i] = row_of(from, scratch, y + i - REACH) + (begin - REACH) * pixel + n;
            int64_t x = begin;
            for (; x + 8 <= end; x += 8, to += 8 * to_pixel) {
                depthwise_tile(8, op, rows, w, bias + n, scale + n, to, to_pixel - n);
                for (int i = 0; i < SIDE; i++)
                    rows[i] += 8 * pixel;
            }
            for (; x < end; x++, to += to_pixel) {
                depthwise_tile(1, op, rows, w, bias + n, scale + n, to, to_pixel - n);
                for (int i = 0; i < SIDE; i++)
                    rows[i] += pixel;
            }
        }
    }
}

/* What `scale_row` multiplies one source's 16 channels with, and so on. */
typedef struct {
    __m256i weights, bias[2];
    const float *scale;
} Scaling;

/* Of channels from c on, of which there are so many behind each other for each source. */
INLINE_AVX2 Scaling scaling(const Operation *op, int64_t source, int64_t c)
{
    c += source * ((op->to.channels + LANES - 1) / LANES * LANES);
    const __m256i *at = (const __m256i *)((const int32_t *)(intptr_t)op->bias + c);
    return (Scaling){_mm256_loadu_si256((const __m256i *)((const int16_t *)(intptr_t)op->weights + c)),
                     {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)},
                     (const float *)(intptr_t)op->scale + c};
}

INLINE_AVX2 __m256i scaled_by(const Scaling *s, const uint8_t *x, int64_t channels, __m256i zero)
{
    return finished(_mm256_mullo_epi16(WIDE(x, channels), s->weights), s->bias, s->scale, zero);
}

/* 16 channels of a row of `scale_row`, from c on; whole: there are so many; both: of two sources. */
INLINE_AVX2 void scale_some(const Operation *operation, const uint8_t *x, const uint8_t *other, uint8_t *to, Added added,
                            int64_t c, bool whole, bool both)
{
    /* A copy, as in `finish_all`. */
    const Operation own = *operation, *const op = &own;
    const int64_t channels = whole ? LANES : op->to.channels - c, room = whole ? LANES : op->to.pixel - c;
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero), most = _mm256_set1_epi16(255);
    const Scaling first = scaling(op, 0, c), second = scaling(op, both, c);
    added = moved(op, added, 0, c);
    x += c, other += c, to += c;
    for (int64_t i = 0; i < op->columns; i++, x += op->from[0].pixel, to += op->to.pixel, added = moved(op, added, 1, 0)) {
        __m256i made = scaled_by(&first, x, channels, zero);
        if (both) {
            const __m256i more = scaled_by(&second, other, channels, zero);
            made = _mm256_min_epi16(_mm256_max_epi16(made, _mm256_setzero_si256()), most);
            made = _mm256_add_epi16(made, _mm256_min_epi16(_mm256_max_epi16(more, _mm256_setzero_si256()), most));
            made = _mm256_sub_epi16(made, zero);
            other += op->from[1].pixel;
        }
        add_to(1, op, added, channels, &made);
        store_avx2(to, made, room);
    }
}

/* y = clip(round((w x + bias) * scale) + zero) (+ what is added), one weight (int16) for each channel; of two sources the
sum of both, less zero. */
TARGET_AVX2 static void scale_row(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y), *other = row_of(&op->from[1], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const Added added = added_at(op, scratch, y);
    const bool both = op->from[1].channels > 0;
    int64_t c = 0;
    for (; c + LANES <= op->to.channels; c += LANES)
        if (both)
            scale_some(op, x, other, to, added, c, true, true);
        else
            scale_some(op, x, other, to, added, c, true, false);
    if (c < op->to.channels)
        scale_some(op, x, other, to, added, c, false, both);
}

/* The others go through a position's channels 16 at a time, most as int16. */

/* y = clip(a + b - zero), of tensors with the same zero. */
TARGET_AVX2 static void add(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *a = row_of(&op->from[0], scratch, y), *b = row_of(&op->from[1], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const int64_t channels = op->to.channels;
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero);
    for (int64_t i = 0; i < op->columns; i++, a += op->from[0].pixel, b += op->from[1].pixel, to += op->to.pixel)
        for (int64_t c = 0; c < channels; c += LANES) {
            const __m256i sum = _mm256_add_epi16(WIDE(a + c, channels - c), WIDE(b + c, channels - c));
            store_avx2(to + c, _mm256_sub_epi16(sum, zero), op->to.pixel - c);
        }
}

/* y = clip((a - low) * (b - zero) + zero) (+ what is added); a counts whole numbers from `low`, b - zero is -128 to
127. */
TARGET_AVX2 static void multiply(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *a = row_of(&op->from[0], scratch, y), *b = row_of(&op->from[1], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const int64_t channels = op->to.channels;
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero), low = _mm256_set1_epi16((int16_t)op->low);
    Added added = added_at(op, scratch, y);
    for (int64_t i = 0; i < op->columns; i++, a += op->from[0].pixel, b += op->from[1].pixel, to += op->to.pixel,
                 added = moved(op, added, 1, 0))
        for (int64_t c = 0; c < channels; c += LANES) {
            const __m256i factor = _mm256_sub_epi16(WIDE(a + c, channels - c), low);
            const __m256i product = _mm256_mullo_epi16(factor, _mm256_sub_epi16(WIDE(b + c, channels - c), zero));
            __m256i made = _mm256_adds_epi16(product, zero);
            add_to(1, op, moved(op, added, 0, c), channels - c, &made);
            store_avx2(to + c, made, op->to.pixel - c);
        }
}

/* y = x between low and high. */
TARGET_AVX2 static void clip(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const int64_t channels = op->to.channels;
    const __m256i low = _mm256_set1_epi16((int16_t)op->low), high = _mm256_set1_epi16((int16_t)op->high);
    for (int64_t i = 0; i < op->columns; i++, x += op->from[0].pixel, to += op->to.pixel)
        for (int64_t c = 0; c < channels; c += LANES) {
            const __m256i above = _mm256_max_epi16(WIDE(x + c, channels - c), low);
            store_avx2(to + c, _mm256_min_epi16(above, high), op->to.pixel - c);
        }
}

/* The source's channels. */
static void copy_floats(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    for (int64_t i = 0; i < op->columns; i++, x += op->from[0].pixel, to += op->to.pixel)
        memcpy(to, x, (size_t)op->to.channels * sizeof(float));
}

/* n bytes. With a call of memcpy for each position copies took 1.3 times as long. */
static inline void move(uint8_t *to, const uint8_t *x, int64_t n)
{
    if (n < LANES) {
        memcpy(to, x, (size_t)n);
        return;
    }
    for (int64_t k = 0; k + LANES <= n; k += LANES)
        _mm_storeu_si128((__m128i *)(to + k), _mm_loadu_si128((const __m128i *)(x + k)));
    _mm_storeu_si128((__m128i *)(to + n - LANES), _mm_loadu_si128((const __m128i *)(x + n - LANES)));
}

/* The source's channels, and `zero` in those that it lacks. */
static void copy(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    uint8_t *to = row_of(&op->to, scratch, y);
    const int64_t channels = op->from[0].channels, lacking = op->to.channels - channels;
    for (int64_t i = 0; i < op->columns; i++, x += op->from[0].pixel, to += op->to.pixel) {
        move(to, x, channels);
        if (lacking > 0)
            memset(to + channels, (int)op->zero, (size_t)lacking);
    }
}

/* Four runs of channels of a position become 2x2 positions; y counts rows of the output. */
static void shuffle(const Operation *op, uint8_t *scratch, int64_t y)
{
    const int64_t channels = op->to.channels;
    const uint8_t *x = row_of(&op->from[0], scratch, y / 2) + y % 2 * 2 * channels;
    uint8_t *to = row_of(&op->to, scratch, y);
    for (int64_t i = 0; i < op->columns; i++, x += op->from[0].pixel, to += 2 * op->to.pixel) {
        move(to, x, channels);
        move(to + op->to.pixel, x + channels, channels);
    }
}

#include "floats.h"

#define EACH_ROW(set)                                                                                                  \
    {                                                                                                                  \
        [POINTWISE] = pointwise_##set, [POINTWISE_FLOATS] = pointwise_##set, [MATMUL] = matmul_##set,                  \
        [DEPTHWISE] = depthwise, [SCALE] = scale_row, [ADD] = add, [MULTIPLY] = multiply, [CLIP] = clip,               \
        [COPY] = copy, [SHUFFLE] = shuffle, [FILTER] = filter, [WEIGH] = weigh,                                        \
        [QUANTISE] = quantise, [TO_BYTES] = to_bytes, [TO_FLOATS] = to_floats, [COPY_FLOATS] = copy_floats,            \
    }

static Row *const ROWS[][KINDS] = {[AVX2] = EACH_ROW(avx2), [VNNI] = EACH_ROW(vnni)};

#endif
