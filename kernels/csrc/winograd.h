/* Winograd's minimal filtering for 3 x 3 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * 2015). Points: 0, +-a, +-b and infinity for 4 outputs, a and b the roots of 1/2 and of 2; 0, +-3/4, 3/2 and
 * infinity for 3. Their errors are a third of those of the usual whole numbers. */
#include "multiply.h"

#define A6 0.70710678118654752f
#define B6 1.41421356237309505f

/* Vectors of filters that are brought to their points together. */
#define FILTERS_AT_ONCE 16

/* Calls a function with the points of tiles of ey x ex outputs behind its arguments, as numbers that the compiler
 * knows. */
#define WITH_POINTS(ey, ex, function, ...)    \
    do {                                      \
        if ((ey) == 4 && (ex) == 4)           \
            function(__VA_ARGS__, 6, 6);      \
        else if ((ey) == 4)                   \
            function(__VA_ARGS__, 6, 5);      \
        else if ((ex) == 4)                   \
            function(__VA_ARGS__, 5, 6);      \
        else                                  \
            function(__VA_ARGS__, 5, 5);      \
    } while (0)

/* What p input values give at the p points. */
INLINE void to_points(const vf *d, vf *o, const int p) {
    if (p == 6) {
        const vf even_a = d[4] - 2 * d[2], odd_a = A6 * (d[3] - 2 * d[1]);
        const vf even_b = d[4] - 0.5f * d[2], odd_b = B6 * (d[3] - 0.5f * d[1]);
        o[0] = d[0] - 2.5f * d[2] + d[4];
        o[1] = even_a + odd_a;
        o[2] = even_a - odd_a;
        o[3] = even_b + odd_b;
        o[4] = even_b - odd_b;
        o[5] = d[1] - 2.5f * d[3] + d[5];
    } else {
        const vf even = d[3] - 1.5f * d[2], odd = 0.75f * (d[2] - 1.5f * d[1]), last = d[3] - 0.5625f * d[1];
        o[0] = last - 1.5f * (d[2] - 0.5625f * d[0]);
        o[1] = even + odd;
        o[2] = even - odd;
        o[3] = last;
        o[4] = d[4] - 0.5625f * d[2] - 1.5f * last;
    }
}

/* What products at the p points give as p - 2 outputs. */
INLINE void from_points(const vf *m, vf *o, const int p) {
    const vf sum = m[1] + m[2], difference = m[1] - m[2];
    if (p == 6) {
        const vf sum_b = m[3] + m[4], difference_b = m[3] - m[4];
        o[0] = m[0] + sum + sum_b;
        o[1] = A6 * difference + B6 * difference_b;
        o[2] = 0.5f * sum + 2 * sum_b;
        o[3] = A6 * 0.5f * difference + B6 * 2 * difference_b + m[5];
    } else {
        o[0] = m[0] + sum + m[3];
        o[1] = 0.75f * difference + 1.5f * m[3];
        o[2] = 0.5625f * sum + 2.25f * m[3] + m[4];
    }
}

/* What the three taps of a filter give at the p points. */
INLINE void filter_points(const vf *g, vf *o, const int p) {
    if (p == 6) {
        const vf even_a = (-2 / 3.0f) * (g[0] + 0.5f * g[2]), odd_a = (-2 / 3.0f * A6) * g[1];
        const vf even_b = (1 / 6.0f) * (g[0] + 2 * g[2]), odd_b = (1 / 6.0f * B6) * g[1];
        o[0] = g[0];
        o[1] = even_a + odd_a;
        o[2] = even_a - odd_a;
        o[3] = even_b + odd_b;
        o[4] = even_b - odd_b;
        o[5] = g[2];
    } else {
        const vf even = g[0] + 0.5625f * g[2], odd = 0.75f * g[1];
        o[0] = (32 / 27.0f) * g[0];
        o[1] = (-32 / 27.0f) * (even + odd);
        o[2] = (-32 / 81.0f) * (even - odd);
        o[3] = (32 / 81.0f) * (g[0] + 1.5f * g[1] + 2.25f * g[2]);
        o[4] = g[2];
    }
}

INLINE void filters_at(const float *taps, int64_t size, int64_t first, int64_t last, float *out, const int py,
                       const int px) {
    /* A row of points at a time: caches keep few lines that are as far apart as rows of filters. */
    vf half[6][FILTERS_AT_ONCE][3];
    for (int64_t start = first; start < last; start += FILTERS_AT_ONCE * VW) {
        const int64_t count = last - start < FILTERS_AT_ONCE * VW ? last - start : FILTERS_AT_ONCE * VW;
        for (int64_t v = 0; v * VW < count; v++)
            for (int j = 0; j < 3; j++) {
                vf g[3], o[6];
                for (int i = 0; i < 3; i++)
                    g[i] = vf_get(taps + (3 * i + j) * size + start + v * VW, count - v * VW);
                filter_points(g, o, py);
                for (int i = 0; i < py; i++) half[i][v][j] = o[i];
            }
        for (int i = 0; i < py; i++)
            for (int64_t v = 0; v * VW < count; v++) {
                vf o[6];
                filter_points(half[i][v], o, px);
                for (int j = 0; j < px; j++)
                    vf_put(out + (i * px + j) * size + start + v * VW, o[j], count - v * VW);
            }
    }
}

static void conv3x3_filters(const float *taps, int64_t size, int64_t ey, int64_t ex, int64_t first, int64_t last,
                            float *out) {
    WITH_POINTS(ey, ex, filters_at, taps, size, first, last, out);
}

struct tile {
    int64_t image, y, x; /* the first output pixel */
};

INLINE struct tile tile_at(const struct rzk_grid *g, int64_t t) {
    int64_t in_image = t % (g->ny * g->nx);
    struct tile at = {t / (g->ny * g->nx), g->y0 + in_image / g->nx * g->ey, g->x0 + in_image % g->nx * g->ex};
    return at;
}

/* One tile of all channels; `inner`: no pixel of it lies outside the picture. */
INLINE void input_tile(const float *x, const struct rzk_grid *g, struct tile at, int64_t c, float *v, int64_t plane,
                       const int py, const int px, const int inner) {
    const int64_t row = g->w * c, top = at.y - 1, left = at.x - 1;
    const float *image = x + at.image * g->h * row;
    for (int64_t k = 0; k < c; k += VW) {
        const int64_t real = c - k;
        vf half[6][6];
        for (int j = 0; j < px; j++) {
            vf d[6], o[6];
            for (int i = 0; i < py; i++) {
                if (inner || (top + i >= 0 && top + i < g->h && left + j >= 0 && left + j < g->w))
                    d[i] = vf_get(image + (top + i) * row + (left + j) * c + k, real);
                else
                    d[i] = vf_set(0);
            }
            to_points(d, o, py);
            for (int i = 0; i < py; i++) half[i][j] = o[i];
        }
        for (int i = 0; i < py; i++) {
            vf o[6];
            to_points(half[i], o, px);
            for (int j = 0; j < px; j++) vf_put(v + (i * px + j) * plane + k, o[j], real);
        }
    }
}

INLINE void input_tiles(const float *x, const struct rzk_grid *g, int64_t c, int64_t first, int64_t last, float *v,
                        int64_t stride, int64_t plane, const int py, const int px) {
    for (int64_t t = first; t < last; t++, v += stride) {
        struct tile at = tile_at(g, t);
        if (at.y > 0 && at.x > 0 && at.y - 1 + py <= g->h && at.x - 1 + px <= g->w)
            input_tile(x, g, at, c, v, plane, py, px, 1);
        else
            input_tile(x, g, at, c, v, plane, py, px, 0);
    }
}

INLINE void output_tile(const float *m, int64_t plane, const struct rzk_grid *g, struct tile at, int64_t c,
                        const float *bias, int64_t relu, float *y, const int py, const int px) {
    const int64_t row = g->w * c;
    const int64_t high = g->h - at.y < py - 2 ? g->h - at.y : py - 2;
    const int64_t wide = g->w - at.x < px - 2 ? g->w - at.x : px - 2;
    float *out = y + (at.image * g->h + at.y) * row + at.x * c;
    for (int64_t k = 0; k < c; k += VW) {
        const int64_t real = c - k;
        vf half[4][6];
        for (int j = 0; j < px; j++) {
            vf d[6], o[4];
            for (int i = 0; i < py; i++) d[i] = vf_get(m + (i * px + j) * plane + k, real);
            from_points(d, o, py);
            for (int i = 0; i < py - 2; i++) half[i][j] = o[i];
        }
        const vf add = bias ? vf_get(bias + k, real) : vf_set(0);
        for (int i = 0; i < high; i++) {
            vf o[4];
            from_points(half[i], o, px);
            for (int j = 0; j < px - 2; j++) {
                vf value = o[j] + add;
                if (relu) value = vf_relu(value);
                if (j < wide) vf_put(out + i * row + j * c + k, value, real);
            }
        }
    }
}

INLINE void conv_tiles(const float *x, const struct rzk_grid *g, const struct rzk_conv *conv, int64_t first,
                       int64_t last, int64_t block, float *y, float *v, const int py, const int px) {
    const int64_t in_c = conv->c / conv->groups, out_c = conv->out_c / conv->groups;
    const int64_t stride = row_stride(conv->c), weights_size = panels_of(out_c) * in_c * PANEL;
    /* Planes lie one line of the cache off the powers of two, so that tiles do not push one another out. */
    const int64_t v_plane = block * stride + 16, m_plane = block * conv->out_c + 16;
    const struct finish later = {0, 0};
    float *m = v + py * px * v_plane;
    for (int64_t start = first; start < last; start += block) {
        const int64_t tiles = last - start < block ? last - start : block;
        input_tiles(x, g, conv->c, start, start + tiles, v, stride, v_plane, py, px);
        for (int64_t p = 0; p < py * px; p++)
            for (int64_t group = 0; group < conv->groups; group++)
                multiply(v + p * v_plane + group * in_c, stride,
                         conv->weights + (group * py * px + p) * weights_size, in_c, tiles,
                         m + p * m_plane + group * out_c, conv->out_c, out_c, later);
        for (int64_t t = 0; t < tiles; t++)
            output_tile(m + t * conv->out_c, m_plane, g, tile_at(g, start + t), conv->out_c, conv->bias,
                        conv->relu, y, py, px);
    }
}

static void conv3x3(const float *x, const struct rzk_grid *g, const struct rzk_conv *conv, int64_t first,
                    int64_t last, int64_t block, float *y, float *work) {
    WITH_POINTS(g->ey, g->ex, conv_tiles, x, g, conv, first, last, block, y, work);
}
