/* The exported functions: which level runs, and the checks before any memory is touched. */
#include <math.h>
#include <stddef.h>

#include "table.h"

#define MOST_SAMPLES 65536 /* of one ROI cell along an axis; more is no box of any picture */

static int chosen = -1;

int rzk_best_level(void) {
#if defined(HAVE_X86_LEVELS)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

int rzk_level(void) {
    if (chosen < 0) chosen = rzk_best_level();
    return chosen;
}

int rzk_set_level(int level) {
    if (level < 0 || level > rzk_best_level()) return RZK_LEVEL;
    chosen = level;
    return RZK_OK;
}

const struct rzk_table *rzk_table(void) {
#if defined(HAVE_X86_LEVELS)
    if (rzk_level() == 2) return &rzk_table_avx512;
    if (rzk_level() == 1) return &rzk_table_avx2;
#endif
    return &rzk_table_portable;
}

int rzk_vector_width(void) { return rzk_table()->vector_width; }

/* a * b, or more than any buffer holds. Neither is negative. */
static int64_t times(int64_t a, int64_t b) {
    if (a == 0 || b == 0) return 0;
    return a > INT64_MAX / 4 / b ? INT64_MAX / 4 : a * b;
}

static int64_t volume(int64_t a, int64_t b, int64_t c, int64_t d) { return times(times(a, b), times(c, d)); }

/* Sizes that can be multiplied with small numbers without a thought. */
static int possible(int64_t value, int64_t least) { return value >= least && value < ((int64_t)1 << 40); }

static int check_range(int64_t first, int64_t last, int64_t all) {
    return first < 0 || last < first || last > all ? RZK_RANGE : RZK_OK;
}

/* Whether there are Winograd points for tiles of so many outputs. */
static int has_points(int64_t edge) { return edge == 3 || edge == 4; }

static int check_axis(int64_t whole, int64_t start, int64_t count, int64_t edge) {
    if (!has_points(edge) || !possible(start, 0) || !possible(count, 1)) return RZK_SHAPE;
    return start + (count - 1) * edge < whole ? RZK_OK : RZK_SHAPE;
}

/* `depth`: rows of a panel; `copies`: how many sets of panels a group has. */
static int check_conv(const struct rzk_conv *conv, int64_t depth, int64_t copies) {
    if (!possible(conv->c, 1) || !possible(conv->out_c, 1) || conv->groups < 1) return RZK_SHAPE;
    if (conv->c % conv->groups || conv->out_c % conv->groups) return RZK_SHAPE;
    const int64_t panels = (conv->out_c / conv->groups + PANEL - 1) / PANEL;
    if (!conv->weights) return RZK_NULL;
    return conv->weights_size < times(volume(conv->groups, copies, panels, depth), PANEL) ? RZK_TOO_SMALL : RZK_OK;
}

/* Floats from row to row of what a kernel writes for itself; at least what multiply.h takes. */
static int64_t padded(int64_t k) { return k + PANEL; }

static int64_t points_of(int64_t ey, int64_t ex) { return (ey + 2) * (ex + 2); }

int rzk_conv3x3_filters(const float *taps, int64_t taps_size, int64_t size, int64_t ey, int64_t ex, int64_t first,
                        int64_t last, float *out, int64_t out_size) {
    if (!has_points(ey) || !has_points(ex) || !possible(size, 1)) return RZK_SHAPE;
    if (check_range(first, last, size)) return RZK_RANGE;
    if (!taps || !out) return RZK_NULL;
    if (taps_size < times(9, size) || out_size < times(points_of(ey, ex), size)) return RZK_TOO_SMALL;
    rzk_table()->conv3x3_filters(taps, size, ey, ex, first, last, out);
    return RZK_OK;
}

int64_t rzk_conv3x3_work(const struct rzk_grid *grid, const struct rzk_conv *conv, int64_t tiles) {
    if (!grid || !conv || !possible(tiles, 1) || !possible(conv->c, 1) || !possible(conv->out_c, 1)) return -1;
    return times(points_of(grid->ey, grid->ex), times(tiles, padded(conv->c) + conv->out_c) + 2 * PANEL);
}

/* The most that fit into a buffer of which one more takes `each` and which takes `fixed` anyway. */
static int64_t fitting(int64_t size, int64_t each, int64_t fixed) { return size < fixed ? 0 : (size - fixed) / each; }

int rzk_conv3x3(const float *x, int64_t x_size, const struct rzk_grid *grid, const struct rzk_conv *conv,
                int64_t first, int64_t last, float *y, int64_t y_size, float *work, int64_t work_size) {
    const struct rzk_grid *g = grid;
    if (!g || !conv) return RZK_NULL;
    if (!possible(g->n, 0) || !possible(g->h, 1) || !possible(g->w, 1)) return RZK_SHAPE;
    if (check_axis(g->h, g->y0, g->ny, g->ey) || check_axis(g->w, g->x0, g->nx, g->ex)) return RZK_SHAPE;
    const int bad = check_conv(conv, conv->groups > 0 ? conv->c / conv->groups : 0, points_of(g->ey, g->ex));
    if (bad) return bad;
    if (check_range(first, last, volume(g->n, g->ny, g->nx, 1))) return RZK_RANGE;
    if (first == last) return RZK_OK;
    if (!x || !y || !work) return RZK_NULL;
    if (x_size < volume(g->n, g->h, g->w, conv->c) || y_size < volume(g->n, g->h, g->w, conv->out_c))
        return RZK_TOO_SMALL;
    const int64_t fixed = 2 * PANEL * points_of(g->ey, g->ex), one = rzk_conv3x3_work(g, conv, 1) - fixed;
    const int64_t block = fitting(work_size, one, fixed);
    if (block < 1) return RZK_TOO_SMALL;
    rzk_table()->conv3x3(x, g, conv, first, last, block, y, work);
    return RZK_OK;
}

/* How many elements a strided (n, channels, h, w) reaches over. */
static int64_t reach(const int64_t *strides, int64_t n, int64_t channels, int64_t h, int64_t w) {
    return times(n - 1, strides[0]) + times(channels - 1, strides[1]) + times(h - 1, strides[2]) +
           times(w - 1, strides[3]) + 1;
}

static int strides_possible(const int64_t *strides) {
    return possible(strides[0], 0) && possible(strides[1], 0) && possible(strides[2], 0) && possible(strides[3], 0);
}

static int check_deform(const struct rzk_deform *s, const struct rzk_conv *conv) {
    if (!possible(s->n, 0) || !possible(s->h, 1) || !possible(s->w, 1) || !possible(conv->c, 1)) return RZK_SHAPE;
    if (!possible(s->out_h, 1) || !possible(s->out_w, 1)) return RZK_SHAPE;
    if (s->kernel < 1 || s->kernel > 64 || s->stride < 1 || s->padding < 0 || s->dilation < 1) return RZK_SHAPE;
    if (conv->groups < 1 || s->deform_groups < 1 || conv->c % s->deform_groups) return RZK_SHAPE;
    /* Places are computed in float32, exact up to here. */
    if (times(s->out_h, s->stride) > 1 << 23 || times(s->out_w, s->stride) > 1 << 23) return RZK_SHAPE;
    if (s->padding > 1 << 20 || s->dilation > 1 << 16) return RZK_SHAPE;
    return strides_possible(s->offset_strides) && strides_possible(s->mask_strides) ? RZK_OK : RZK_SHAPE;
}

int64_t rzk_deform_conv_work(const struct rzk_deform *shape, const struct rzk_conv *conv, int64_t pixels) {
    if (!shape || !conv || !possible(pixels, 1) || !possible(conv->c, 1) || conv->groups < 1) return -1;
    if (shape->kernel < 1 || shape->kernel > 64) return -1;
    const int64_t depth = times(shape->kernel * shape->kernel, conv->c / conv->groups);
    return volume(conv->groups, pixels, padded(depth), 1);
}

int rzk_deform_conv(const float *x, int64_t x_size, const float *offset, int64_t offset_size, const float *mask,
                    int64_t mask_size, const struct rzk_deform *shape, const struct rzk_conv *conv, int64_t first,
                    int64_t last, float *y, int64_t y_size, float *work, int64_t work_size) {
    const struct rzk_deform *s = shape;
    if (!s || !conv) return RZK_NULL;
    if (check_deform(s, conv)) return RZK_SHAPE;
    const int64_t taps = s->kernel * s->kernel, samples = times(s->deform_groups, taps);
    const int bad = check_conv(conv, times(taps, conv->c / conv->groups), 1);
    if (bad) return bad;
    if (check_range(first, last, volume(s->n, s->out_h, s->out_w, 1))) return RZK_RANGE;
    if (first == last) return RZK_OK;
    if (!x || !offset || !y || !work) return RZK_NULL;
    if (x_size < volume(s->n, s->h, s->w, conv->c)) return RZK_TOO_SMALL;
    if (y_size < volume(s->n, s->out_h, s->out_w, conv->out_c)) return RZK_TOO_SMALL;
    if (offset_size < reach(s->offset_strides, s->n, 2 * samples, s->out_h, s->out_w)) return RZK_TOO_SMALL;
    if (mask && mask_size < reach(s->mask_strides, s->n, samples, s->out_h, s->out_w)) return RZK_TOO_SMALL;
    const int64_t block = fitting(work_size, rzk_deform_conv_work(s, conv, 1), 0);
    if (block < 1) return RZK_TOO_SMALL;
    rzk_table()->deform_conv(x, offset, mask, s, conv, first, last, block, y, work);
    return RZK_OK;
}

int64_t rzk_roi_align_work(int64_t h, int64_t w, int64_t c, int64_t size) {
    if (!possible(h, 1) || !possible(w, 1) || !possible(c, 1) || !possible(size, 1)) return -1;
    return times(w, c) + times(size, h + w + 4);
}

/* One region: down its columns into a row of `work` for each row of cells, then along that row. */
static int pool(const float *image, int64_t h, int64_t w, int64_t c, const float *roi, int64_t size, float scale,
                int64_t ratio, float *out, float *work) {
    const float x0 = roi[1] * scale - 0.5f, y0 = roi[2] * scale - 0.5f;
    const float wide = roi[3] * scale - 0.5f - x0, high = roi[4] * scale - 0.5f - y0;
    const float most = (float)MOST_SAMPLES * (float)size;
    if (!(fabsf(x0) < 1e9f && fabsf(y0) < 1e9f && fabsf(wide) < most && fabsf(high) < most)) return RZK_VALUE;
    float *row = work, *y_weights = row + w * c, *x_weights = y_weights + size * h;
    int32_t *y_lows = (int32_t *)(x_weights + size * w), *y_counts = y_lows + size;
    int32_t *x_lows = y_counts + size, *x_counts = x_lows + size;
    const int some = rzk_roi_axis(y0, high, size, ratio, h, y_lows, y_counts, y_weights) &
                     rzk_roi_axis(x0, wide, size, ratio, w, x_lows, x_counts, x_weights);
    int64_t left = w, right = 0; /* the columns that any cell reads */
    for (int64_t j = 0; j < size; j++) {
        if (!x_counts[j]) continue;
        if (x_lows[j] < left) left = x_lows[j];
        if (x_lows[j] + x_counts[j] > right) right = x_lows[j] + x_counts[j];
    }
    const struct rzk_table *table = rzk_table();
    for (int64_t i = 0; i < size; i++, out += size * c) {
        const int64_t count = some ? y_counts[i] : 0;
        if (count && left < right)
            table->weighted_rows(row, image + (y_lows[i] * w + left) * c, w * c, y_weights + i * h, count,
                                 (right - left) * c);
        for (int64_t j = 0; j < size; j++)
            table->weighted_rows(out + j * c, row + (x_counts[j] ? x_lows[j] - left : 0) * c, c, x_weights + j * w,
                                 count ? x_counts[j] : 0, c);
    }
    return RZK_OK;
}

int rzk_roi_align(const float *x, int64_t x_size, int64_t n, int64_t h, int64_t w, int64_t c, const float *rois,
                  int64_t count, int64_t size, float scale, int64_t sampling_ratio, int64_t first, int64_t last,
                  float *out, int64_t out_size, float *work, int64_t work_size) {
    if (!possible(n, 0) || !possible(h, 1) || !possible(w, 1) || !possible(c, 1)) return RZK_SHAPE;
    if (h > INT32_MAX || w > INT32_MAX || size < 1 || size > 4096) return RZK_SHAPE;
    if (!possible(count, 0) || sampling_ratio < 0 || sampling_ratio > MOST_SAMPLES || !isfinite(scale))
        return RZK_SHAPE;
    if (check_range(first, last, count)) return RZK_RANGE;
    if (first == last) return RZK_OK;
    if (!x || !rois || !out || !work) return RZK_NULL;
    if (x_size < volume(n, h, w, c) || out_size < volume(count, size, size, c)) return RZK_TOO_SMALL;
    if (work_size < rzk_roi_align_work(h, w, c, size)) return RZK_TOO_SMALL;
    for (int64_t r = first; r < last; r++) {
        const float image = rois[5 * r];
        if (!(image >= 0 && image < (float)n)) return RZK_VALUE;
        const int bad = pool(x + (int64_t)image * h * w * c, h, w, c, rois + 5 * r, size, scale, sampling_ratio,
                             out + r * size * size * c, work);
        if (bad) return bad;
    }
    return RZK_OK;
}

static int check_attention(const void *x, int64_t x_size, int64_t pixels, int64_t splits, int64_t c, int64_t first,
                           int64_t last) {
    if (!possible(pixels, 0) || splits < 1 || splits > 1024 || !possible(c, 1)) return RZK_SHAPE;
    if (check_range(first, last, pixels)) return RZK_RANGE;
    if (first == last) return RZK_OK;
    if (!x) return RZK_NULL;
    return x_size < volume(pixels, splits, c, 1) ? RZK_TOO_SMALL : RZK_OK;
}

int rzk_attention_sums(const float *x, int64_t x_size, int64_t pixels, int64_t splits, int64_t c, int64_t first,
                       int64_t last, double *sums) {
    const int bad = check_attention(x, x_size, pixels, splits, c, first, last);
    if (bad) return bad;
    if (!sums) return RZK_NULL;
    rzk_table()->attention_sums(x, splits, c, first, last, sums);
    return RZK_OK;
}

int rzk_attention_mix(const float *x, int64_t x_size, int64_t pixels, int64_t splits, int64_t c,
                      const float *attention, int64_t first, int64_t last, float *y, int64_t y_size) {
    const int bad = check_attention(x, x_size, pixels, splits, c, first, last);
    if (bad || first == last) return bad;
    if (!attention || !y) return RZK_NULL;
    if (y_size < times(pixels, c)) return RZK_TOO_SMALL;
    rzk_table()->attention_mix(x, splits, c, attention, first, last, y);
    return RZK_OK;
}

/* Whether a table reads only what is there. */
static int check_table(const int32_t *table, int64_t table_size, int64_t in, int64_t out) {
    const int64_t taps = rzk_resample_taps(in, out);
    if (taps < 0) return RZK_SHAPE;
    if (!table) return RZK_NULL;
    if (table_size < times(out, taps + 2)) return RZK_TOO_SMALL;
    for (int64_t i = 0; i < out; i++) {
        const int32_t *entry = table + i * (taps + 2);
        if (entry[0] < 0 || entry[1] < 0 || entry[1] > taps || (int64_t)entry[0] + entry[1] > in) return RZK_VALUE;
    }
    return RZK_OK;
}

int64_t rzk_resample_work(int64_t channels, int64_t w, int64_t out_w) {
    if (!possible(channels, 1) || !possible(w, 1) || !possible(out_w, 1)) return -1;
    return times(RESAMPLE_LANES, times(channels + 1, w + RESAMPLE_LANES) + out_w + RESAMPLE_LANES);
}

int rzk_resample_across(const uint8_t *x, int64_t x_size, const int64_t *strides, int64_t channels, int64_t h, int64_t w,
                        int64_t out_w, const int32_t *table, int64_t table_size, int64_t first, int64_t last,
                        uint8_t *y, int64_t y_size, uint8_t *work, int64_t work_size) {
    if (!possible(channels, 1) || !possible(h, 1)) return RZK_SHAPE;
    if (check_range(first, last, h)) return RZK_RANGE;
    if (!x || !strides || !y || !work) return RZK_NULL;
    const int bad = check_table(table, table_size, w, out_w);
    if (bad) return bad;
    for (int i = 0; i < 3; i++)
        if (!possible(strides[i], 0)) return RZK_SHAPE;
    const int64_t reaches =
        times(channels - 1, strides[0]) + times(h - 1, strides[1]) + times(w - 1, strides[2]) + 1;
    if (x_size < reaches || y_size < volume(channels, h, out_w, 1)) return RZK_TOO_SMALL;
    if (work_size < rzk_resample_work(channels, w, out_w)) return RZK_TOO_SMALL;
    rzk_table()->resample_across(x, strides, channels, h, w, out_w, table, rzk_resample_taps(w, out_w), first, last, y,
                                 work);
    return RZK_OK;
}

int rzk_resample_down(const uint8_t *x, int64_t x_size, int64_t channels, int64_t h, int64_t w, int64_t out_h,
                      const int32_t *table, int64_t table_size, int64_t first, int64_t last, uint8_t *y,
                      int64_t y_size) {
    if (!possible(channels, 1) || !possible(w, 1)) return RZK_SHAPE;
    if (check_range(first, last, out_h)) return RZK_RANGE;
    if (!x || !y) return RZK_NULL;
    const int bad = check_table(table, table_size, h, out_h);
    if (bad) return bad;
    if (x_size < volume(channels, h, w, 1) || y_size < volume(channels, out_h, w, 1)) return RZK_TOO_SMALL;
    for (int64_t c = 0; c < channels; c++)
        rzk_table()->resample_down(x + c * h * w, w, table, rzk_resample_taps(h, out_h), first, last,
                                   y + c * out_h * w);
    return RZK_OK;
}
