/* Kernels that run along rows of channels: sampling for deformable convolution, weighted sums of rows, and the
 * two passes of split attention. */
#include <math.h>

#include "multiply.h"

/* out = a weighted sum of `count` rows that lie `stride` apart, each n long. */
static void weighted_rows(float *RESTRICT out, const float *RESTRICT rows, int64_t stride,
                          const float *RESTRICT weights, int64_t count, int64_t n) {
    int64_t k = 0;
    for (; k + 4 * VW <= n; k += 4 * VW) {
        vf a = vf_set(0), b = a, c = a, d = a;
        for (int64_t i = 0; i < count; i++) {
            const float *p = rows + i * stride + k;
            const vf weight = vf_set(weights[i]);
            a += weight * vf_load(p);
            b += weight * vf_load(p + VW);
            c += weight * vf_load(p + 2 * VW);
            d += weight * vf_load(p + 3 * VW);
        }
        vf_store(out + k, a);
        vf_store(out + k + VW, b);
        vf_store(out + k + 2 * VW, c);
        vf_store(out + k + 3 * VW, d);
    }
    for (; k < n; k += VW) {
        vf a = vf_set(0);
        for (int64_t i = 0; i < count; i++) a += vf_set(weights[i]) * vf_get(rows + i * stride + k, n - k);
        vf_put(out + k, a, n - k);
    }
}

/* The four pixels around a place and their weights; a weight of 0 has a pixel that is there all the same. */
struct corners {
    int64_t at[4];
    float weight[4];
};

/* 0 if the place is so far outside that its value is 0. NaN is outside, too. */
INLINE int corners_of(float y, float x, int64_t h, int64_t w, float factor, struct corners *found) {
    if (!(y > -1 && y < (float)h && x > -1 && x < (float)w)) return 0;
    const int64_t top = (int64_t)floorf(y), left = (int64_t)floorf(x);
    const float down = y - (float)top, right = x - (float)left;
    const float rows[2] = {top >= 0 ? factor * (1 - down) : 0, top + 1 < h ? factor * down : 0};
    const float cols[2] = {left >= 0 ? 1 - right : 0, left + 1 < w ? right : 0};
    const int64_t y0 = top >= 0 ? top : 0, y1 = top + 1 < h ? top + 1 : top;
    const int64_t x0 = left >= 0 ? left : 0, x1 = left + 1 < w ? left + 1 : left;
    const int64_t at[4] = {y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1};
    for (int i = 0; i < 4; i++) {
        found->at[i] = at[i];
        found->weight[i] = rows[i / 2] * cols[i % 2];
    }
    return 1;
}

INLINE void blend(const float *image, int64_t c, const struct corners *s, float *RESTRICT out, int64_t n) {
    const float *p0 = image + s->at[0] * c, *p1 = image + s->at[1] * c;
    const float *p2 = image + s->at[2] * c, *p3 = image + s->at[3] * c;
    const vf w0 = vf_set(s->weight[0]), w1 = vf_set(s->weight[1]);
    const vf w2 = vf_set(s->weight[2]), w3 = vf_set(s->weight[3]);
    int64_t k = 0;
    for (; k + VW <= n; k += VW)
        vf_store(out + k, w0 * vf_load(p0 + k) + w1 * vf_load(p1 + k) + w2 * vf_load(p2 + k) + w3 * vf_load(p3 + k));
    if (k < n) {
        const int64_t r = n - k;
        const vf value = w0 * vf_load_part(p0 + k, r) + w1 * vf_load_part(p1 + k, r) +
                         w2 * vf_load_part(p2 + k, r) + w3 * vf_load_part(p3 + k, r);
        vf_store_part(out + k, value, r);
    }
}

/* Samples of one pixel for all taps and channels: (groups, ..., kernel * kernel * c / groups), the groups
 * `group_size` apart. */
INLINE void deform_pixel(const float *picture, const float *shift, const float *factor, const struct rzk_deform *s,
                         const struct rzk_conv *conv, int64_t oy, int64_t ox, float *columns, int64_t group_size) {
    const int64_t taps = s->kernel * s->kernel;
    const int64_t group_c = conv->c / conv->groups, deform_c = conv->c / s->deform_groups;
    for (int64_t d = 0; d < s->deform_groups; d++) {
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t channel = d * taps + tap;
            const float y = (float)(oy * s->stride - s->padding + tap / s->kernel * s->dilation) +
                            shift[2 * channel * s->offset_strides[1]];
            const float x = (float)(ox * s->stride - s->padding + tap % s->kernel * s->dilation) +
                            shift[(2 * channel + 1) * s->offset_strides[1]];
            struct corners found;
            const int there =
                corners_of(y, x, s->h, s->w, factor ? factor[channel * s->mask_strides[1]] : 1.0f, &found);
            /* The channels of this deformable group, group by group of the weights. */
            for (int64_t k = d * deform_c, end; k < (d + 1) * deform_c; k = end) {
                end = (k / group_c + 1) * group_c;
                if (end > (d + 1) * deform_c) end = (d + 1) * deform_c;
                float *out = columns + k / group_c * group_size + tap * group_c + k % group_c;
                if (there)
                    blend(picture + k, conv->c, &found, out, end - k);
                else
                    memset(out, 0, (size_t)(end - k) * sizeof(float));
            }
        }
    }
}

static void deform_conv(const float *x, const float *offset, const float *mask, const struct rzk_deform *s,
                        const struct rzk_conv *conv, int64_t first, int64_t last, int64_t block, float *y,
                        float *work) {
    const int64_t pixels = s->out_h * s->out_w, out_c = conv->out_c / conv->groups;
    const int64_t depth = s->kernel * s->kernel * (conv->c / conv->groups), stride = row_stride(depth);
    for (int64_t start = first; start < last; start += block) {
        const int64_t stop = start + block < last ? start + block : last;
        for (int64_t p = start; p < stop; p++) {
            const int64_t image = p / pixels, oy = p % pixels / s->out_w, ox = p % s->out_w;
            const float *shift = offset + image * s->offset_strides[0] + oy * s->offset_strides[2] +
                                 ox * s->offset_strides[3];
            const float *factor = mask ? mask + image * s->mask_strides[0] + oy * s->mask_strides[2] +
                                             ox * s->mask_strides[3]
                                       : 0;
            deform_pixel(x + image * s->h * s->w * conv->c, shift, factor, s, conv, oy, ox,
                         work + (p - start) * stride, block * stride);
        }
        for (int64_t group = 0; group < conv->groups; group++) {
            const struct finish now = {conv->bias ? conv->bias + group * out_c : 0, conv->relu != 0};
            multiply(work + group * block * stride, stride,
                     conv->weights + group * panels_of(out_c) * depth * PANEL, depth, stop - start,
                     y + start * conv->out_c + group * out_c, conv->out_c, out_c, now);
        }
    }
}

/* Pixels whose sum is kept in float32 before it goes into the float64 total. */
#define SUMMED_AT_ONCE 16

static void attention_sums(const float *x, int64_t splits, int64_t c, int64_t first, int64_t last, double *sums) {
    for (int64_t k = 0; k < c; k++) sums[k] = 0;
    for (int64_t start = first; start < last; start += SUMMED_AT_ONCE) {
        const int64_t stop = start + SUMMED_AT_ONCE < last ? start + SUMMED_AT_ONCE : last;
        for (int64_t k = 0; k < c; k += VW) {
            const int64_t real = c - k < VW ? c - k : VW;
            vf total = vf_set(0);
            for (int64_t row = start * splits; row < stop * splits; row++) total += vf_get(x + row * c + k, real);
            float part[VW];
            vf_store(part, total);
            for (int64_t i = 0; i < real; i++) sums[k + i] += (double)part[i];
        }
    }
}

static void attention_mix(const float *x, int64_t splits, int64_t c, const float *attention, int64_t first,
                          int64_t last, float *y) {
    for (int64_t p = first; p < last; p++) {
        const float *pixel = x + p * splits * c;
        for (int64_t k = 0; k < c; k += VW) {
            vf total = vf_get(pixel + k, c - k) * vf_get(attention + k, c - k);
            for (int64_t r = 1; r < splits; r++)
                total += vf_get(pixel + r * c + k, c - k) * vf_get(attention + r * c + k, c - k);
            vf_put(y + p * c + k, total, c - k);
        }
    }
}
