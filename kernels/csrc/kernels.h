/* What the library offers. Every function checks its arguments before it touches memory and returns a status.
 *
 * Tensors are float32 and channels-last: (n, h, w, c), c contiguous. A size named `..._size` is how many
 * elements there are behind the pointer. Ranges [first, last) let several threads share one call's work.
 */
#ifndef RZK_KERNELS_H
#define RZK_KERNELS_H

#include <stdint.h>

#if defined(_WIN32)
#define RZK_API __declspec(dllexport)
#else
#define RZK_API __attribute__((visibility("default")))
/* Resizing of uint8 pictures as Pillow does it with its bilinear filter, in two passes with rounding between.
 *
 * A table has for each output its first input, the number of inputs and rzk_resample_taps weights; so it holds
 * out * (taps + 2) numbers. */
RZK_API int64_t rzk_resample_taps(int64_t in, int64_t out);
RZK_API int rzk_resample_table(int64_t in, int64_t out, int32_t *table, int64_t table_size);

/* Along rows: x of any strides (channel, row, column), y (channels, h, out_w); rows [first, last) of all channels.
 * `work` holds rzk_resample_work bytes. */
RZK_API int64_t rzk_resample_work(int64_t channels, int64_t w, int64_t out_w);
RZK_API int rzk_resample_across(const uint8_t *x, int64_t x_size, const int64_t *strides, int64_t channels, int64_t h,
                                int64_t w, int64_t out_w, const int32_t *table, int64_t table_size, int64_t first,
                                int64_t last, uint8_t *y, int64_t y_size, uint8_t *work, int64_t work_size);
/* Down the columns: x (channels, h, w), y (channels, out_h, w); rows [first, last) of y of all channels. */
RZK_API int rzk_resample_down(const uint8_t *x, int64_t x_size, int64_t channels, int64_t h, int64_t w,
                              int64_t out_h, const int32_t *table, int64_t table_size, int64_t first, int64_t last,
                              uint8_t *y, int64_t y_size);

/* Instance masks (n, side, side) stretched over boxes (n, 4), as runs of a picture (h, w), column by column.
 *
 * Of each column of a mask's window (all masks' windows one after another; rzk_mask_columns counts them and writes
 * n + 1 bounds and the first column of each window): how many rows there are at which it begins or ends, and these
 * rows in ascending order; -1 where rounding could decide, so that somebody must look at the pixels. `rows` must
 * hold (side + 1) for each column. `doubt`: values so close to one half may be on either side. */
RZK_API int rzk_mask_columns(const float *boxes, int64_t n, int64_t h, int64_t w, int64_t *bounds, int64_t *starts);
RZK_API int rzk_mask_crossings(const float *masks, int64_t masks_size, const float *boxes, int64_t n, int64_t side,
                               int64_t h, int64_t w, double doubt, const int64_t *bounds, const int64_t *starts,
                               int32_t *counts, int32_t *rows, int64_t rows_size, double *work, int64_t work_size);
/* Run lengths as COCO writes them, one text after another, `lengths` (n) of them. Columns with a count of -1 take
 * the next of `more_counts` and its rows from `more_rows`. */
RZK_API int rzk_mask_runs(int64_t n, int64_t h, int64_t w, const int64_t *bounds, const int64_t *starts,
                          const int32_t *counts, int64_t side, const int32_t *rows, int64_t rows_size,
                          const int32_t *more_counts, int64_t more, const int32_t *more_rows, int64_t more_rows_size,
                          int64_t *work, int64_t work_size, char *text, int64_t text_size, int64_t *lengths);

#endif

enum rzk_status {
    RZK_OK = 0,
    RZK_NULL = 1,      /* a pointer is null */
    RZK_SHAPE = 2,     /* a size, stride or count is not possible */
    RZK_RANGE = 3,     /* the range to compute lies outside the work */
    RZK_TOO_SMALL = 4, /* a buffer holds fewer elements than the shapes need */
    RZK_VALUE = 5,     /* a value is not finite, or an index points outside */
    RZK_LEVEL = 6      /* the instruction set is not there */
};

/* Levels of instructions: 0 portable (on ARM 64 that is NEON), 1 AVX2 with FMA, 2 AVX-512. */
RZK_API int rzk_best_level(void);
RZK_API int rzk_level(void);
RZK_API int rzk_set_level(int level);
RZK_API int rzk_vector_width(void);

/* A convolution's channels, weights and what comes after it. */
struct rzk_conv {
    int64_t c, out_c, groups;
    const float *weights; /* in panels of 16 columns, see below */
    int64_t weights_size;
    const float *bias; /* (out_c), or null */
    int64_t relu;
};

/* 3 x 3, stride 1, padding 1, by Winograd's F(e x e, 3 x 3), e = 4 (6 points) or 3 (5 points) along each axis.
 * A grid of tiles: ny rows of tiles, the first output row y0, each ey rows high; likewise columns. Several grids
 * may share out one picture. Tile t of n * ny * nx stands for image t / (ny * nx). */
struct rzk_grid {
    int64_t n, h, w;
    int64_t y0, ny, ey;
    int64_t x0, nx, ex;
};

/* Filters at the points of tiles of ey x ex outputs: taps (9, size), out (points, size), of which the numbers
 * [first, last) of each row. */
RZK_API int rzk_conv3x3_filters(const float *taps, int64_t taps_size, int64_t size, int64_t ey, int64_t ex,
                                int64_t first, int64_t last, float *out, int64_t out_size);
/* weights: (groups, points, panels, c / groups, 16). y (n, h, w, out_c). `work`: as many tiles at once as it holds;
 * rzk_conv3x3_work says how many floats that takes. */
RZK_API int64_t rzk_conv3x3_work(const struct rzk_grid *grid, const struct rzk_conv *conv, int64_t tiles);
RZK_API int rzk_conv3x3(const float *x, int64_t x_size, const struct rzk_grid *grid, const struct rzk_conv *conv,
                        int64_t first, int64_t last, float *y, int64_t y_size, float *work, int64_t work_size);

/* Deformable convolution. Strides in elements: image, channel, row, column. */
struct rzk_deform {
    int64_t n, h, w;
    int64_t out_h, out_w;
    int64_t kernel, stride, padding, dilation;
    int64_t deform_groups;
    int64_t offset_strides[4], mask_strides[4];
};

/* weights: (groups, panels, kernel * kernel * c / groups, 16), channels fastest. mask may be null. Output pixels
 * [first, last) are numbered over all images. */
RZK_API int64_t rzk_deform_conv_work(const struct rzk_deform *shape, const struct rzk_conv *conv, int64_t pixels);
RZK_API int rzk_deform_conv(const float *x, int64_t x_size, const float *offset, int64_t offset_size,
                            const float *mask, int64_t mask_size, const struct rzk_deform *shape,
                            const struct rzk_conv *conv, int64_t first, int64_t last, float *y, int64_t y_size,
                            float *work, int64_t work_size);

/* ROIAlign, aligned; out (rois, size, size, c). `work` holds rzk_roi_align_work floats. */
RZK_API int64_t rzk_roi_align_work(int64_t h, int64_t w, int64_t c, int64_t size);
RZK_API int rzk_roi_align(const float *x, int64_t x_size, int64_t n, int64_t h, int64_t w, int64_t c,
                          const float *rois, int64_t count, int64_t size, float scale, int64_t sampling_ratio,
                          int64_t first, int64_t last, float *out, int64_t out_size, float *work,
                          int64_t work_size);

/* Sums over pixels [first, last) and the splits; x (pixels, splits * c), sums (c). */
RZK_API int rzk_attention_sums(const float *x, int64_t x_size, int64_t pixels, int64_t splits, int64_t c,
                               int64_t first, int64_t last, double *sums);
/* y (pixels, c) = sum over splits of x (pixels, splits * c) times attention (splits, c). */
RZK_API int rzk_attention_mix(const float *x, int64_t x_size, int64_t pixels, int64_t splits, int64_t c,
                              const float *attention, int64_t first, int64_t last, float *y, int64_t y_size);

#endif
