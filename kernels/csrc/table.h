/* The kernels of one level, called by api.c with arguments that it has checked. */
#ifndef RZK_TABLE_H
#define RZK_TABLE_H

#include "kernels.h"

/* Bits behind the point of a resizing weight: those that Pillow has. */
#define RESAMPLE_BITS 22
/* Rows of a picture that a pass across works on at once. */
#define RESAMPLE_LANES 16

/* Columns of a panel of weights. */
#define PANEL 16

struct rzk_table {
    int vector_width;
    void (*conv3x3_filters)(const float *taps, int64_t size, int64_t ey, int64_t ex, int64_t first, int64_t last,
                            float *out);
    void (*conv3x3)(const float *x, const struct rzk_grid *grid, const struct rzk_conv *conv, int64_t first,
                    int64_t last, int64_t block, float *y, float *work);
    void (*deform_conv)(const float *x, const float *offset, const float *mask, const struct rzk_deform *shape,
                        const struct rzk_conv *conv, int64_t first, int64_t last, int64_t block, float *y,
                        float *work);
    void (*weighted_rows)(float *out, const float *rows, int64_t stride, const float *weights, int64_t count,
                          int64_t n);
    void (*attention_sums)(const float *x, int64_t splits, int64_t c, int64_t first, int64_t last, double *sums);
    void (*attention_mix)(const float *x, int64_t splits, int64_t c, const float *attention, int64_t first,
                          int64_t last, float *y);
    void (*resample_across)(const uint8_t *x, const int64_t *strides, int64_t channels, int64_t h, int64_t w,
                            int64_t out_w, const int32_t *table, int64_t taps, int64_t first, int64_t last,
                            uint8_t *y, uint8_t *work);
    void (*resample_down)(const uint8_t *x, int64_t w, const int32_t *table, int64_t taps, int64_t first,
                          int64_t last, uint8_t *y);
};

extern const struct rzk_table rzk_table_portable, rzk_table_avx2, rzk_table_avx512;

/* The table in use. */
const struct rzk_table *rzk_table(void);

/* exact.c: one ROI axis. For each of `size` cells the first row it reads, how many, and their weights, `limit`
 * apart. Returns 0 if the axis has no sample. */
int rzk_roi_axis(float start, float length, int64_t size, int64_t sampling_ratio, int64_t limit, int32_t *lows,
                 int32_t *counts, float *weights);

#endif
