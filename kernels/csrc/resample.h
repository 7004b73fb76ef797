/* Passes of a picture's resizing: integers, so every level gives the same bytes. */
#ifndef RZK_RESAMPLE_H
#define RZK_RESAMPLE_H

#include "table.h"
#include "vector.h"

#if VW >= 8
#include <immintrin.h>
#endif

#define LANES RESAMPLE_LANES
#define BLOCKS(n) (((n) + LANES - 1) / LANES)
#define STRETCH 4 /* times sixteen columns that one pass down works on at once */

#if defined(__GNUC__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES
typedef uint8_t vb __attribute__((vector_size(16)));
typedef uint8_t vb_anywhere __attribute__((vector_size(16), aligned(1), may_alias));
#endif
#endif

#if VW >= 8
/* Sixteen bytes as integers and back; the compilers' own conversions go byte by byte. */
#define SIXTEEN (16 / VW)
typedef int32_t vi __attribute__((vector_size(VW * 4)));
#if VW == 16
INLINE void widen(const uint8_t *p, vi *to) { to[0] = (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE void narrow(const vi *from, uint8_t *p) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)from[0]));
}
#else
INLINE void widen(const uint8_t *p, vi *to) {
    to[0] = (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    to[1] = (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)));
}
INLINE void narrow(const vi *from, uint8_t *p) {
    const __m256i pairs = _mm256_packus_epi32((__m256i)from[0], (__m256i)from[1]);
    const __m256i sorted = _mm256_permute4x64_epi64(pairs, 0xd8);
    _mm_storeu_si128((__m128i *)p,
                     _mm_packus_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1)));
}
#endif

/* `pieces` times sixteen bytes at p and at every `stride` behind it, weighted and rounded. No weight is negative. */
INLINE void weigh(const uint8_t *p, int64_t stride, const int32_t *entry, uint8_t *out, const int pieces) {
    vi sum[STRETCH * SIXTEEN], some[SIXTEEN];
    for (int i = 0; i < pieces * SIXTEEN; i++) sum[i] = (vi){0} + (1 << (RESAMPLE_BITS - 1));
    for (const int32_t *weight = entry + 2, *end = weight + entry[1]; weight < end; weight++, p += stride) {
        for (int i = 0; i < pieces; i++) {
            widen(p + 16 * i, some);
            for (int j = 0; j < SIXTEEN; j++) sum[i * SIXTEEN + j] += some[j] * *weight;
        }
    }
    for (int i = 0; i < pieces; i++) {
        for (int j = 0; j < SIXTEEN; j++) {
            const vi value = sum[i * SIXTEEN + j] >> RESAMPLE_BITS, over = value > 255;
            some[j] = (over & 255) | (~over & value);
        }
        narrow(some, out + 16 * i);
    }
}
#else
INLINE void weigh(const uint8_t *RESTRICT p, int64_t stride, const int32_t *RESTRICT entry, uint8_t *RESTRICT out,
                  const int pieces) {
    int32_t sum[STRETCH * 16];
    for (int i = 0; i < pieces * 16; i++) sum[i] = 1 << (RESAMPLE_BITS - 1);
    for (int32_t tap = 0; tap < entry[1]; tap++, p += stride) {
        const int32_t weight = entry[2 + tap];
        for (int i = 0; i < pieces * 16; i++) sum[i] += p[i] * weight;
    }
    for (int i = 0; i < pieces * 16; i++) {
        const int32_t value = sum[i] >> RESAMPLE_BITS;
        out[i] = (uint8_t)(value > 255 ? 255 : value);
    }
}
#endif

INLINE void weigh_one(const uint8_t *p, int64_t stride, const int32_t *entry, uint8_t *out) {
    int32_t sum = 1 << (RESAMPLE_BITS - 1);
    for (int32_t tap = 0; tap < entry[1]; tap++, p += stride) sum += *p * entry[2 + tap];
    sum >>= RESAMPLE_BITS;
    *out = (uint8_t)(sum > 255 ? 255 : sum);
}

/* 16 rows of 16 bytes, `from_row` apart, become 16 rows `to_row` apart, turned. */
INLINE void turn(const uint8_t *from, int64_t from_row, uint8_t *to, int64_t to_row) {
#if defined(SHUFFLES)
    vb a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = *(const vb_anywhere *)(from + i * from_row);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                                   30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < 16; i++) *(vb_anywhere *)(to + i * to_row) = a[i];
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) to[j * to_row + i] = from[i * from_row + j];
#endif
}

/* One row of all channels into rows of `plane`, which lie `apart`. */
INLINE void split_row(const uint8_t *from, const int64_t *strides, int64_t channels, int64_t w, uint8_t *plane,
                      int64_t apart) {
    if (channels == 3 && strides[0] == 1 && strides[2] == 3) {
        uint8_t *RESTRICT r = plane, *RESTRICT g = plane + apart, *RESTRICT b = plane + 2 * apart;
        for (int64_t i = 0; i < w; i++) {
            r[i] = from[3 * i];
            g[i] = from[3 * i + 1];
            b[i] = from[3 * i + 2];
        }
        return;
    }
    for (int64_t c = 0; c < channels; c++, from += strides[0], plane += apart) {
        if (strides[2] == 1)
            memcpy(plane, from, (size_t)w);
        else
            for (int64_t i = 0; i < w; i++) plane[i] = from[i * strides[2]];
    }
}

/* Rows [first, last) of all channels. `work`: LANES rows of all channels; the same of one as columns, before and
 * after; all lengths rounded up to whole blocks. */
static void resample_across(const uint8_t *x, const int64_t *strides, int64_t channels, int64_t h, int64_t w,
                            int64_t out_w, const int32_t *table, int64_t taps, int64_t first, int64_t last,
                            uint8_t *y, uint8_t *work) {
    const int64_t wide = BLOCKS(w) * LANES, out_wide = BLOCKS(out_w) * LANES;
    uint8_t *turned = work + channels * LANES * wide, *after = turned + wide * LANES;
    for (int64_t start = first; start < last; start += LANES) {
        const int64_t rows = last - start < LANES ? last - start : LANES;
        for (int64_t r = 0; r < rows; r++)
            split_row(x + (start + r) * strides[1], strides, channels, w, work + r * wide, LANES * wide);
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t i = 0; i < wide; i += LANES) turn(work + c * LANES * wide + i, wide, turned + i * LANES, LANES);
            for (int64_t i = 0; i < out_w; i++) {
                const int32_t *entry = table + i * (taps + 2);
                weigh(turned + entry[0] * LANES, LANES, entry, after + i * LANES, 1);
            }
            uint8_t *out = y + (c * h + start) * out_w;
            for (int64_t i = 0; i < out_wide; i += LANES) {
                if (rows == LANES && i + LANES <= out_w) {
                    turn(after + i * LANES, LANES, out + i, out_w);
                    continue;
                }
                uint8_t block[LANES * LANES];
                turn(after + i * LANES, LANES, block, LANES);
                for (int64_t r = 0; r < rows; r++)
                    memcpy(out + r * out_w + i, block + r * LANES, (size_t)(out_w - i < LANES ? out_w - i : LANES));
            }
        }
    }
}

/* Rows [first, last) of the result of one channel. */
static void resample_down(const uint8_t *x, int64_t w, const int32_t *table, int64_t taps, int64_t first,
                          int64_t last, uint8_t *y) {
    for (int64_t i = first; i < last; i++) {
        const int32_t *entry = table + i * (taps + 2);
        const uint8_t *from = x + entry[0] * w;
        int64_t k = 0;
        for (; k + STRETCH * 16 <= w; k += STRETCH * 16) weigh(from + k, w, entry, y + i * w + k, STRETCH);
        for (; k + 16 <= w; k += 16) weigh(from + k, w, entry, y + i * w + k, 1);
        for (; k < w; k++) weigh_one(from + k, w, entry, y + i * w + k);
    }
}

#endif
