/* Coordinates and weights whose rounding is the reference's: compiled so that nothing is contracted or reordered. */
#include <math.h>

#include "table.h"

/* Where one sample reads along an axis; 0 if it lies outside. Source: torchvision, roi_align_common.h. */
static int sample_at(float place, int64_t limit, int64_t *low, int64_t *high, float *up) {
    if (!(place >= -1.0f && place <= (float)limit)) return 0;
    if (place <= 0) place = 0;
    *low = (int64_t)place;
    if (*low >= limit - 1) {
        *low = *high = limit - 1;
        *up = 0;
    } else {
        *high = *low + 1;
        *up = place - (float)*low;
    }
    return 1;
}

int rzk_roi_axis(float start, float length, int64_t size, int64_t sampling_ratio, int64_t limit, int32_t *lows,
                 int32_t *counts, float *weights) {
    const float cell = length / (float)size;
    const int64_t samples = sampling_ratio > 0 ? sampling_ratio : (int64_t)ceilf(length / (float)size);
    for (int64_t i = 0; i < size; i++) {
        int64_t least = limit, most = -1, low, high;
        float up;
        for (int64_t s = 0; s < samples; s++) {
            const float place = start + (float)i * cell + ((float)s + 0.5f) * cell / (float)samples;
            if (!sample_at(place, limit, &low, &high, &up)) continue;
            if (low < least) least = low;
            if (high > most) most = high;
        }
        lows[i] = (int32_t)(most < 0 ? 0 : least);
        counts[i] = (int32_t)(most < 0 ? 0 : most - least + 1);
        float *own = weights + i * limit;
        for (int32_t k = 0; k < counts[i]; k++) own[k] = 0;
        for (int64_t s = 0; s < samples; s++) {
            const float place = start + (float)i * cell + ((float)s + 0.5f) * cell / (float)samples;
            if (!sample_at(place, limit, &low, &high, &up)) continue;
            own[low - least] += (1 - up) / (float)samples;
            own[high - least] += up / (float)samples;
        }
    }
    return samples > 0;
}

/* ---- Resizing. Source of the numbers: Pillow, src/libImaging/Resample.c. */

#define LONGEST ((int64_t)1 << 24) /* a side that float32 counts, as Pillow does */

int64_t rzk_resample_taps(int64_t in, int64_t out) {
    if (in < 1 || out < 1 || in > LONGEST || out > LONGEST) return -1;
    const double scale = (double)in / (double)out;
    return 2 * (int64_t)ceil(scale < 1 ? 1 : scale) + 1;
}

/* The triangle around `center`: its weights from `low` on, which add up to one. */
static void triangle(double center, double reach, int64_t low, int64_t count, int32_t *weights) {
    const double narrow = 1.0 / reach;
    double total = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < count; i++) {
            const double away = fabs(((double)(i + low) - center + 0.5) * narrow);
            const double weight = away < 1 ? 1 - away : 0;
            if (pass == 0)
                total += weight;
            else
                weights[i] = (int32_t)(0.5 + (total != 0 ? weight / total : weight) * (1 << RESAMPLE_BITS));
        }
    }
}

int rzk_resample_table(int64_t in, int64_t out, int32_t *table, int64_t table_size) {
    const int64_t taps = rzk_resample_taps(in, out);
    if (taps < 0) return RZK_SHAPE;
    if (!table) return RZK_NULL;
    if (table_size < out * (taps + 2)) return RZK_TOO_SMALL;
    const double scale = (double)in / (double)out, reach = scale < 1 ? 1 : scale;
    for (int64_t i = 0; i < out; i++, table += taps + 2) {
        const double center = ((double)i + 0.5) * scale;
        int64_t low = (int64_t)(center - reach + 0.5), high = (int64_t)(center + reach + 0.5);
        if (low < 0) low = 0;
        if (high > in) high = in;
        table[0] = (int32_t)low;
        table[1] = (int32_t)(high - low);
        for (int64_t k = 0; k < taps; k++) table[2 + k] = 0;
        triangle(center, reach, low, high - low, table + 2);
    }
    return RZK_OK;
}
