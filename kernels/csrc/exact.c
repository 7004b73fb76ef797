/* Coordinates whose rounding is the reference's: compiled so that nothing is contracted or reordered. */
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
