/* Matrix products whose right side is packed in panels: (panels, k, PANEL), the last one filled up with zeros.
 * The left side is read where it lies, one number of each row at a time. Then bias and ReLU, as long as the sums
 * are in registers. Blocks of rows that are worked on together stay in the first cache, panels in the second. */
#ifndef RZK_MULTIPLY_H
#define RZK_MULTIPLY_H

#include "table.h"
#include "vector.h"

#if VW == 16
#define PANELS_AT_ONCE 2
#define ROWS_AT_ONCE 14
#elif VW == 8
#define PANELS_AT_ONCE 1
#define ROWS_AT_ONCE 6
#elif defined(__aarch64__)
#define PANELS_AT_ONCE 1
#define ROWS_AT_ONCE 6
#else
#define PANELS_AT_ONCE 1
#define ROWS_AT_ONCE 3
#endif
#define VECTORS (PANEL / VW)

struct finish {
    const float *bias; /* of the columns; may be null */
    int relu;
};

/* `rows` rows times `panels` panels, both known to the compiler; `columns` of them are real. */
INLINE void multiply_block(const float *RESTRICT a, int64_t lda, const float *RESTRICT b, int64_t k,
                           float *RESTRICT c, int64_t ldc, int64_t columns, struct finish last, const int rows,
                           const int panels) {
    vf sum[ROWS_AT_ONCE][PANELS_AT_ONCE * VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < panels * VECTORS; v++) sum[r][v] = vf_set(0);
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) PREFETCH_TO_WRITE(c + r * ldc + p * PANEL);
    for (int64_t i = 0; i < k; i++, b += PANEL) {
        PREFETCH(a + (rows + i % 16) * lda + i / 16 * 16); /* the rows that come next */
        for (int p = 0; p < panels; p++) PREFETCH(b + p * k * PANEL + 8 * PANEL);
        vf right[PANELS_AT_ONCE * VECTORS];
        for (int v = 0; v < panels * VECTORS; v++)
            right[v] = vf_load(b + v / VECTORS * k * PANEL + v % VECTORS * VW);
        for (int r = 0; r < rows; r++) {
            const vf left = vf_set(a[r * lda + i]);
            for (int v = 0; v < panels * VECTORS; v++) sum[r][v] += left * right[v];
        }
    }
    for (int v = 0; v < panels * VECTORS && v * VW < columns; v++) {
        const int64_t real = columns - v * VW;
        const vf add = last.bias ? vf_get(last.bias + v * VW, real) : vf_set(0);
        for (int r = 0; r < rows; r++) {
            const vf value = sum[r][v] + add;
            vf_put(c + r * ldc + v * VW, last.relu ? vf_relu(value) : value, real);
        }
    }
}

INLINE void multiply_rows(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc,
                          int64_t columns, struct finish last, const int rows) {
    while (columns > 0) {
        const int panels = columns > PANEL ? PANELS_AT_ONCE : 1;
        if (panels == PANELS_AT_ONCE)
            multiply_block(a, lda, b, k, c, ldc, columns, last, rows, PANELS_AT_ONCE);
        else
            multiply_block(a, lda, b, k, c, ldc, columns, last, rows, 1);
        b += panels * k * PANEL;
        c += panels * PANEL;
        columns -= panels * PANEL;
        if (last.bias) last.bias += panels * PANEL;
    }
}

/* c (rows, columns) = a (rows, k) times the panels b; lda and ldc elements from row to row. */
static void multiply(const float *a, int64_t lda, const float *b, int64_t k, int64_t rows, float *c, int64_t ldc,
                     int64_t columns, struct finish last) {
    for (; rows >= ROWS_AT_ONCE; rows -= ROWS_AT_ONCE, a += ROWS_AT_ONCE * lda, c += ROWS_AT_ONCE * ldc)
        multiply_rows(a, lda, b, k, c, ldc, columns, last, ROWS_AT_ONCE);
#if ROWS_AT_ONCE > 6
    for (; rows >= 6; rows -= 6, a += 6 * lda, c += 6 * ldc)
        multiply_rows(a, lda, b, k, c, ldc, columns, last, 6);
#endif
#if ROWS_AT_ONCE > 3
    for (; rows >= 3; rows -= 3, a += 3 * lda, c += 3 * ldc)
        multiply_rows(a, lda, b, k, c, ldc, columns, last, 3);
#endif
    for (; rows > 0; rows--, a += lda, c += ldc) multiply_rows(a, lda, b, k, c, ldc, columns, last, 1);
}

/* From row to row of a left side that is written here: rows must not all fall on the same lines of a cache. */
INLINE int64_t row_stride(int64_t k) { return k % 512 ? k : k + 16; }

INLINE int64_t panels_of(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

#endif
